"""From a backbone to a folder in its own Hugging Face layout, which other code reads unchanged."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import PreTrainedTokenizerFast

from igpo_lightning import distributed
from igpo_lightning.models.backbone import BackboneModule
from igpo_lightning.models.checkpoint import save_weights
from igpo_lightning.models.lazy_tensor import LazyTensor
from igpo_lightning.models.lora import merged_state

TRAVELS_ALONG = ("*.py", "generation_config.json")  # the public code's files, read by it alone


def save_export(
    model: BackboneModule,
    tokenizer: PreTrainedTokenizerFast,
    folder: str | Path,
    state_dict: Mapping[str, Tensor] | None = None,
    max_shard_size: int | None = None,
) -> None:
    """Write safetensors, config and tokenizer in the model's own layout; `load_backbone` reads it.

    Adapters are added to the weights they stand beside; quantized weights are written in full.
    Beside what the model holds, one shard is in memory at a time. Where ranks share the weights,
    all of them must call, and the first one writes.

    Args:
        model: The backbone; it is left as it is.
        tokenizer: Travels along, with its chat template.
        folder: Made if absent.
        state_dict: Replaces the model's own weights.
        max_shard_size: Bytes of a safetensors file; None for 5 GB, less where memory is short.

    Raises:
        OSError: The disk is full or cannot be written.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    state = merged_state(model, model.state_dict() if state_dict is None else state_dict)
    weights = model.checkpoint_names(state)
    save_weights(weights, folder, max_shard_size)
    if distributed.rank() > 0:
        return
    text = json.dumps(_export_config(model, weights), indent=2)
    (folder / "config.json").write_text(text + "\n", encoding="utf-8")
    tokenizer.save_pretrained(folder)
    if model.source is not None and Path(model.source).is_dir():
        for pattern in TRAVELS_ALONG:
            for file in Path(model.source).glob(pattern):
                if file.resolve() != (folder / file.name).resolve():
                    shutil.copyfile(file, folder / file.name)


def _export_config(model: BackboneModule, weights: Mapping[str, LazyTensor]) -> dict[str, Any]:
    """config.json as it was read; its dtype is the weights', and its code is found on the hub."""
    config = dict(model.raw_config)
    config.pop("quantization_config", None)
    for key in ("torch_dtype", "dtype"):
        if key in config:
            config[key] = str(next(iter(weights.values())).dtype).removeprefix("torch.")
    if "auto_map" in config and model.source is not None and not Path(model.source).is_dir():
        config["auto_map"] = {
            name: target if "--" in target else f"{model.source}--{target}"
            for name, target in config["auto_map"].items()
        }
    return config
