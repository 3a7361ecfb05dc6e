"""4-bit and 8-bit weights through bitsandbytes, for a frozen base under LoRA."""

import importlib
import importlib.util
import math
from typing import Any

import torch
from torch import Tensor, nn

from igpo_lightning.errors import ConfigError
from igpo_lightning.models.backbone import BackboneModule
from igpo_lightning.models.lazy_tensor import LazyTensor

# Of bitsandbytes: weights that share a scale, and scales that share one.
_NF4_BLOCK, _SCALE_BLOCK = 64, 256


def quantized_bytes(weight: nn.Parameter, kind: str) -> int:
    """Bytes of a layer's weight [out, in] as bitsandbytes keeps it, with its scales.

    8bit: a float32 scale a row (LLM.int8, arXiv 2208.07339). 4bit: NF4, whose scales are
    themselves quantized to a byte (QLoRA, arXiv 2305.14314).
    """
    if kind == "8bit":
        return weight.numel() + 4 * len(weight)
    scales = math.ceil(weight.numel() / _NF4_BLOCK)
    return math.ceil(weight.numel() / 2) + scales + 4 * math.ceil(scales / _SCALE_BLOCK)


def require_bitsandbytes(kind: str) -> None:
    """Raise a ConfigError where the library is not installed."""
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ConfigError(
            f"model.quantization={kind} needs bitsandbytes, which is not installed; "
            "pip install bitsandbytes, or set model.quantization=none"
        )


def quantize_blocks(model: BackboneModule, kind: str, compute_dtype: torch.dtype) -> None:
    """Replace the linear layers of all blocks, while the model is on the meta device.

    Embedding, norms and head stay as they are (QLoRA, arXiv 2305.14314). The 4-bit type is NF4.
    """
    require_bitsandbytes(kind)
    bnb: Any = importlib.import_module("bitsandbytes")
    for block in model.blocks:
        for path, layer in list(block.named_modules()):
            if not isinstance(layer, nn.Linear):
                continue
            sizes = (layer.in_features, layer.out_features, layer.bias is not None)
            with torch.device("meta"):
                if kind == "4bit":
                    new = bnb.nn.Linear4bit(*sizes, compute_dtype=compute_dtype, quant_type="nf4")
                else:
                    new = bnb.nn.Linear8bitLt(*sizes, has_fp16_weights=False)
            parent, _, leaf = path.rpartition(".")
            setattr(block.get_submodule(parent), leaf, new)
    # What peft asks for before it wraps such layers.
    setattr(model, f"is_loaded_in_{kind}", True)


def _kind(layer: nn.Module) -> str | None:
    """Of a quantized layer; peft's wrappers have the same class names in another library."""
    if not type(layer).__module__.startswith("bitsandbytes"):
        return None
    return {"Linear4bit": "4bit", "Linear8bitLt": "8bit"}.get(type(layer).__name__)


def quantized_parameter(
    layer: nn.Module, tensor: Tensor, device: str | torch.device
) -> nn.Parameter | None:
    """A weight in the form that its quantized layer keeps; None for any other layer."""
    kind = _kind(layer)
    if kind is None or tensor.dim() != 2:
        return None
    bnb: Any = importlib.import_module("bitsandbytes")
    parameter: Any
    if kind == "4bit":
        parameter = bnb.nn.Params4bit(tensor, requires_grad=False, quant_type="nf4")
    else:
        parameter = bnb.nn.Int8Params(tensor, requires_grad=False, has_fp16_weights=False)
    return parameter.to(device)  # type: ignore[no-any-return]


def dense_weight(layer: nn.Module) -> LazyTensor | None:
    """The weight [out, in] of a quantized layer in full; None for any other layer."""
    kind = _kind(layer)
    if kind is None:
        return None
    functional: Any = importlib.import_module("bitsandbytes.functional")
    quantized: Any = layer
    weight = quantized.weight
    shape = torch.Size((quantized.out_features, quantized.in_features))
    if kind == "4bit":
        return LazyTensor(
            shape,
            weight.quant_state.dtype,
            lambda: functional.dequantize_4bit(weight.data, weight.quant_state),
        )
    # A forward pass moves the scales from the weight to the layer's state.
    scales = weight.SCB if weight.SCB is not None else quantized.state.SCB
    return LazyTensor(
        shape, torch.float32, lambda: functional.int8_vectorwise_dequant(weight.data, scales)
    )
