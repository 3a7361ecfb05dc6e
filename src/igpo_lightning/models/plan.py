"""A backbone in numbers: parameters, FLOPs per token, channels that a pass keeps.

Counted on the meta device, so that a laptop plans an 8B run in seconds. Parameters and FLOPs are
exact counts of the matrix products.
"""

from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers.pytorch_utils import Conv1D

from igpo_lightning.models.backbone import BackboneModule
from igpo_lightning.models.experts import Experts
from igpo_lightning.models.lora import is_lora
from igpo_lightning.models.quantization import quantized_bytes
from igpo_lightning.models.transformer import NativeBackbone


@dataclass(frozen=True)
class Counts:
    """Numbers of a backbone.

    Attributes:
        parameters: All of them, each once.
        trainable: Those that get a gradient.
        weight_bytes: Of the frozen and trained weights together.
        trainable_bytes: Of the trained weights.
        block_bytes: Of the largest block.
        active: Parameters that a token meets: with a mixture of experts, its own experts' alone.
        active_blocks: Those of them that are in blocks.
        layers: Blocks.
        width: Channels of the hidden states.
        attention_width: Channels of a block's queries, all heads together.
        kept_channels: What a block keeps of a token for its backward pass; see `kept_channels`.
        vocab_size: V.
        cached_channels: Keys and values of a token in all blocks; 0 without `supports_cache`.
        largest_bytes: Of the largest tensor.
        export_bytes: Of the weights in full and without adapters, as an export holds them.
    """

    parameters: int
    trainable: int
    weight_bytes: int
    trainable_bytes: int
    block_bytes: int
    active: int
    active_blocks: int
    layers: int
    width: int
    attention_width: int
    kept_channels: int
    vocab_size: int
    cached_channels: int
    largest_bytes: int
    export_bytes: int


def _bytes(parameters: list[nn.Parameter]) -> int:
    return sum(p.numel() * p.element_size() for p in parameters)


def _block_bytes(block: list[nn.Parameter], quantization: str) -> int:
    """Of a block, whose frozen matrices are what `model.quantization` shrinks."""
    if quantization == "none":
        return _bytes(block)
    return sum(
        quantized_bytes(p, quantization) if p.dim() == 2 and not p.requires_grad else _bytes([p])
        for p in block
    )


def count(model: BackboneModule, quantization: str = "none") -> Counts:
    """Count a backbone, on any device.

    Args:
        model: The backbone, its blocks not yet quantized.
        quantization: What its blocks' frozen matrices will be kept in: none, 8bit or 4bit.
    """
    parameters = list(model.parameters())
    trained = [p for p in parameters if p.requires_grad]
    blocks = [list(block.parameters()) for block in model.blocks]
    largest = max(blocks, key=_bytes)
    idle = sum(_idle_parameters(block) for block in model.blocks)
    heads = getattr(model, "heads", None)
    spared = sum(_bytes(block) - _block_bytes(block, quantization) for block in blocks)
    return Counts(
        parameters=sum(p.numel() for p in parameters),
        trainable=sum(p.numel() for p in trained),
        weight_bytes=_bytes(parameters) - spared,
        trainable_bytes=_bytes(trained),
        block_bytes=_block_bytes(largest, quantization),
        active=sum(p.numel() for p in parameters) - idle,
        active_blocks=sum(p.numel() for block in blocks for p in block) - idle,
        layers=len(blocks),
        width=model.hidden_size,
        attention_width=model.hidden_size if heads is None else heads.queries * heads.width,
        kept_channels=kept_channels(model),
        vocab_size=model.vocab_size,
        cached_channels=cached_channels(model),
        largest_bytes=max(_bytes([p]) for p in parameters),
        export_bytes=_bytes([p for name, p in model.named_parameters() if "lora_" not in name]),
    )


def _idle_parameters(block: nn.Module) -> int:
    """Of the experts that a token of a block does not go to."""
    return sum(
        round(sum(p.numel() for p in part.experts.parameters()) * (1 - part.active_share))
        for part in block.modules()
        if isinstance(part, Experts)
    )


def forward_flops(counts: Counts, canvas: int) -> float:
    """FLOPs of a token in a forward pass: two for each weight, and full attention.

    Attention costs 2 L D for the scores and 2 L D for the mixture in each block, D the channels of
    its queries: every position sees all L, where a causal model sees half.
    """
    head = counts.vocab_size * counts.width
    weights = counts.active_blocks + head
    return 2.0 * weights + 4.0 * counts.layers * canvas * counts.attention_width


def train_flops(counts: Counts, canvas: int, recompute: bool) -> float:
    """FLOPs of a token in a forward and backward pass.

    The backward pass costs as much again for the inputs' gradients, and as much for the weights'
    where they are trained; recomputing the blocks costs another forward pass.
    """
    forward = forward_flops(counts, canvas)
    share = counts.trainable / counts.parameters
    return forward * (2.0 + share + (1.0 if recompute else 0.0))


def kept_channels(model: BackboneModule) -> int:
    """Channels that a block keeps of a token for its backward pass.

    A pre-norm block with SwiGLU keeps 9 D + 2 K + 4 I, with K the channels of its keys: of both
    norms the input, the normalised and the scaled values, then queries, keys, values, the mixture
    twice (before and after its heads are joined), and of the feed-forward part the gate before
    and after SiLU, the other branch and their product. In terms of its linear layers that is what
    they put out, 6 D and 2 I more.
    Adapters keep their inputs, which dropout made their own. Of experts a token meets some alone.
    """
    block = list(model.blocks)[-1]  # the first may have no experts
    share = {
        id(part.experts): part.active_share for part in block.modules() if type(part) is Experts
    }
    inside = {
        id(layer): share[id(part)]
        for part in block.modules()
        if id(part) in share
        for layer in part.modules()
    }
    names = model.linear_names
    layers = [
        (layer, inside.get(id(layer), 1.0))
        for path, layer in block.named_modules()
        if path.rpartition(".")[2] in names and "lora_" not in path
    ]
    inputs = [_sizes(layer)[0] * active for layer, active in layers]
    outputs = [_sizes(layer)[1] * active for layer, active in layers]
    kept = sum(outputs) + 6 * model.hidden_size + 2 * max(inputs)
    return round(kept + (sum(inputs) if is_lora(model) else 0))


def cached_channels(model: BackboneModule) -> int:
    """Channels that the sampler's cache keeps of a token: keys and values of all blocks."""
    heads = model.heads if isinstance(model, NativeBackbone) else None
    return 0 if heads is None else 2 * len(model.blocks) * heads.keys * heads.width


def _sizes(layer: nn.Module) -> tuple[int, int]:
    """Channels in and out of a linear layer of torch, of transformers, or of peft."""
    if isinstance(layer, Conv1D):
        return int(layer.nx), int(layer.nf)
    linear: Any = layer
    return int(linear.in_features), int(linear.out_features)
