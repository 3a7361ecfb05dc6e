"""LoRA (arXiv 2106.09685) through peft: small trained matrices beside frozen weights.

The adapters are put into the backbone in place, so it stays what it is for every caller. With them
switched off the backbone is the model that training started from: the reference policy of the KL
penalty then costs no second copy.
"""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from igpo_lightning.errors import ConfigError
from igpo_lightning.models.backbone import BackboneModule
from igpo_lightning.models.lazy_tensor import LazyTensor
from igpo_lightning.models.quantization import dense_weight
from igpo_lightning.settings import LoraConfig

ADAPTER = "default"


def add_lora(model: BackboneModule, settings: LoraConfig, seed: int) -> None:
    """Freeze the backbone and put adapters beside its linear layers; B starts at zero.

    The adapters are float32 whatever the weights are: a step of a usual learning rate would be lost
    in bfloat16's rounding.

    Raises:
        ConfigError: A target is no linear layer of the blocks.
    """
    import peft

    names = settings.targets or model.linear_names
    unknown = sorted(set(names) - set(model.linear_names))
    if unknown:
        raise ConfigError(
            f"model.lora.targets={unknown}: the blocks of this {model.raw_config['model_type']} "
            f"model have {', '.join(model.linear_names)}"
        )
    inside = {id(part) for part in model.blocks.modules()}
    targets = [
        path
        for path, part in model.named_modules()
        if id(part) in inside
        and path.rpartition(".")[2] in names
        and hasattr(part, "weight")
        # Routed experts are narrow and many: an adapter for each would outweigh them.
        and ".experts." not in path
    ]
    config = peft.LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,  # type: ignore[arg-type]
        lora_dropout=settings.dropout,
        target_modules=targets,
        bias="none",
    )
    model.requires_grad_(False)
    device = next(model.parameters()).device
    with torch.random.fork_rng(devices=[]), torch.device(device):
        torch.manual_seed(seed)
        peft.inject_adapter_in_model(config, model, ADAPTER)
    for _, layer in _layers(model):
        layer.lora_A.float()
        layer.lora_B.float()


def _layers(model: nn.Module) -> list[tuple[str, Any]]:
    """Paths and adapted layers of a backbone."""
    # peft takes seconds to import, and a backbone without adapters never needs it.
    if "peft.tuners.lora" not in sys.modules:
        return []
    from peft.tuners.lora import LoraLayer

    return [(path, part) for path, part in model.named_modules() if isinstance(part, LoraLayer)]


def is_lora(model: nn.Module) -> bool:
    """Whether the backbone has adapters."""
    return bool(_layers(model))


@contextmanager
def adapters_off(model: nn.Module) -> Iterator[None]:
    """Within it, the backbone computes what it did before adapters were added."""
    layers = [layer for _, layer in _layers(model)]
    trained = [p for layer in layers for p in layer.parameters() if p.requires_grad]
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)
        for parameter in trained:
            parameter.requires_grad_(True)


def build_reference(model: BackboneModule) -> BackboneModule | None:
    """A frozen copy of the policy that training starts from; None where adapters spare it."""
    return None if is_lora(model) else deepcopy(model).requires_grad_(False).eval()


@contextmanager
def reference_policy(
    model: BackboneModule, reference: BackboneModule | None
) -> Iterator[BackboneModule]:
    """The policy that training started from: what `build_reference` made, or adapters off."""
    if reference is not None:
        yield reference
        return
    with adapters_off(model):
        yield model


def merged_state(model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, LazyTensor]:
    """A state dict as the backbone had it before adapters, with the adapters added to its weights.

    Each sum is made when it is asked for, so that no second copy of the weights ever exists.
    Weights have their own dtype; quantized ones are written out in full.

    Args:
        model: The backbone, for scaling and quantized weights.
        state: Its own state dict, or the same with other values (of a checkpoint).
    """
    merged = {name: LazyTensor.of(tensor) for name, tensor in state.items()}
    for path, layer in model.named_modules():
        dense = dense_weight(layer)
        if dense is not None:
            prefix = f"{path}.weight"
            for name in [name for name in merged if name.startswith(prefix)]:
                del merged[name]
            merged.pop(f"{path}.SCB", None)
            merged[prefix] = dense
    for path, layer in _layers(model):
        down = merged.pop(f"{path}.lora_A.{ADAPTER}.weight")
        up = merged.pop(f"{path}.lora_B.{ADAPTER}.weight")
        weight = merged.pop(f"{path}.base_layer.weight")
        merged[f"{path}.weight"] = _sum(layer, weight, down, up)
        if f"{path}.base_layer.bias" in merged:
            merged[f"{path}.bias"] = merged.pop(f"{path}.base_layer.bias")
    return merged


def _sum(layer: Any, weight: LazyTensor, down: LazyTensor, up: LazyTensor) -> LazyTensor:
    """A weight [out, in] with its adapter's update, alpha / r * B A."""

    def make() -> Tensor:
        whole = weight.make()
        # In place from here on: a large layer's sum exists once.
        delta = (up.make().float() @ down.make().float()).mul_(layer.scaling[ADAPTER])
        if isinstance(layer.get_base_layer(), Conv1D):
            delta = delta.T
        return delta.to(whole.device).add_(whole.float()).to(weight.dtype)

    return LazyTensor(weight.shape, weight.dtype, make)
