"""From a folder or hub id to a ready backbone."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast

from igpo_lightning.errors import ConfigError
from igpo_lightning.models import dream, llada, tiny
from igpo_lightning.models.backbone import BackboneModule
from igpo_lightning.models.checkpoint import load_weights
from igpo_lightning.models.configuration import read_config, resolve
from igpo_lightning.models.special_tokens import token_ids
from igpo_lightning.models.transformer import NativeBackbone

# model_type of config.json -> (reader of its sizes, class). A new native architecture is one line.
NATIVE: dict[str, tuple[Callable[[Mapping[str, Any]], Any], Callable[..., NativeBackbone]]] = {
    tiny.MODEL_TYPE: (tiny.TinyConfig.read, tiny.TinyBackbone),
    llada.MODEL_TYPE: (llada.LladaConfig.read, llada.LladaBackbone),
    dream.MODEL_TYPE: (dream.DreamConfig.read, dream.DreamBackbone),
}


def load_backbone(
    path_or_hub_id: str,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
    random_init: bool = False,
    seed: int = 0,
) -> BackboneModule:
    """Load a backbone from a folder in its Hugging Face layout, a hub id, or "tiny" (embedded).

    Args:
        path_or_hub_id: Where config.json and the safetensors are.
        dtype: Of the weights.
        device: Where the weights go.
        random_init: Build the architecture of config.json with random weights and read no
            checkpoint.
        seed: Of the random initialisation; without effect on the global generator.

    Raises:
        ConfigError: For an unknown architecture, and for weights that are missing, unexpected or
            of the wrong shape; it names them.
    """
    source = resolve(path_or_hub_id)
    raw = read_config(source)
    model_type = raw["model_type"]
    if model_type not in NATIVE:
        supported = ", ".join(sorted(NATIVE))
        raise ConfigError(
            f"model.path={path_or_hub_id} has model_type={model_type!r}; supported: {supported}"
        )
    read, build = NATIVE[model_type]
    tokens = token_ids(path_or_hub_id, raw)
    with torch.device("meta"):
        model = build(read(raw), tokens, raw)
    if random_init:
        model = model.to(dtype).to_empty(device=device)
        model.initialize(torch.Generator(device).manual_seed(seed))
    else:
        load_weights(model, source, dtype, device)
    return model.eval()


def load_tokenizer(path_or_hub_id: str) -> PreTrainedTokenizerFast:
    """The tokenizer that travels with a backbone."""
    return PreTrainedTokenizerFast.from_pretrained(resolve(path_or_hub_id))
