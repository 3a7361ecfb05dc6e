"""From a backbone to a folder in its own Hugging Face layout, which other code reads unchanged."""

import json
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor
from transformers import PreTrainedTokenizerFast

from igpo_lightning.models.backbone import BackboneModule
from igpo_lightning.models.checkpoint import save_weights


def save_export(
    model: BackboneModule,
    tokenizer: PreTrainedTokenizerFast,
    folder: str | Path,
    state_dict: Mapping[str, Tensor] | None = None,
) -> None:
    """Write safetensors, config and tokenizer in the model's own layout; `load_backbone` reads it.

    `state_dict` replaces the model's own weights where those are shared over ranks.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(model.config, indent=2) + "\n", encoding="utf-8")
    save_weights(model.state_dict() if state_dict is None else state_dict, folder)
    tokenizer.save_pretrained(folder)
