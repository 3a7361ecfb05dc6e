"""The decoder family: Llama's block and its kin, with full or block-causal attention.

One configuration covers LLaDA, iLLaDA, Dream, SDAR, TraDo, DreamReasoner, Fast-dLLM v2, LLaDA 2,
and Llama, Qwen2 and Qwen3 run with full attention. families.py reads it from a config.json.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from igpo_lightning.models.attention import Frame, Heads, RopeScaling, attend
from igpo_lightning.models.experts import MLP, Experts, ExpertsConfig
from igpo_lightning.models.special_tokens import TokenIds
from igpo_lightning.models.transformer import NativeBackbone


@dataclass(frozen=True)
class DecoderConfig:
    """What tells one decoder from another.

    Attributes:
        width: D, channels of the hidden states.
        inner: Channels inside the MLP.
        depth: Blocks.
        heads: Attention heads of a block.
        vocab_size: V, rows of the embedding.
        norm_eps: Of RMSNorm.
        rope_theta: Base of the rotary positions.
        rope_scaling: How they are stretched for long contexts; None for not at all.
        tied: The head is the embedding.
        rotary_share: Share of a head's channels that rotate, the first ones.
        qk_norm: RMSNorm on each head's queries and keys, before they rotate.
        qkv_bias: Biases on queries, keys and values.
        output_bias: Bias behind the attention.
        mlp_bias: Biases in the MLP.
        fused_qkv: One matrix makes queries, keys and values, in this order.
        block_size: Tokens of a block of block-causal attention; None for full attention.
        shifted: The checkpoint's logits at i - 1 predict token i.
        experts: Mixture of experts in place of the MLP.
        initializer_std: Of random weights.
        names: Parts of parameter names here, and what the checkpoint has in their place, in order.
    """

    width: int
    inner: int
    depth: int
    heads: Heads
    vocab_size: int
    norm_eps: float
    rope_theta: float
    tied: bool
    rope_scaling: RopeScaling | None = None
    rotary_share: float = 1.0
    qk_norm: bool = False
    qkv_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    fused_qkv: bool = False
    block_size: int | None = None
    shifted: bool = False
    experts: ExpertsConfig | None = None
    initializer_std: float = 0.02
    names: tuple[tuple[str, str], ...] = ()


class Attention(nn.Module):
    """Grouped-query attention (Ainslie et al., 2023)."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.heads = config.heads
        queries = self.heads.queries * self.heads.width
        keys = self.heads.keys * self.heads.width
        self.sizes = (queries, keys, keys)
        self.fused = config.fused_qkv
        if self.fused:
            self.qkv_proj = nn.Linear(config.width, sum(self.sizes), bias=config.qkv_bias)
        else:
            self.q_proj = nn.Linear(config.width, queries, bias=config.qkv_bias)
            self.k_proj = nn.Linear(config.width, keys, bias=config.qkv_bias)
            self.v_proj = nn.Linear(config.width, keys, bias=config.qkv_bias)
        self.o_proj = nn.Linear(queries, config.width, bias=config.output_bias)
        if config.qk_norm:
            self.q_norm = nn.RMSNorm(self.heads.width, eps=config.norm_eps)
            self.k_norm = nn.RMSNorm(self.heads.width, eps=config.norm_eps)
        self.qk_norm = config.qk_norm

    def forward(self, x: Tensor, frame: Frame) -> Tensor:
        """Map normalised hidden states [B, n, D] to the wanted positions."""
        if self.fused:
            query, key, value = self.qkv_proj(x).split(self.sizes, dim=-1)
            query = frame.narrow(query)
        else:
            query = self.q_proj(frame.narrow(x))
            key, value = self.k_proj(x), self.v_proj(x)
        if self.qk_norm:
            split = (-1, self.heads.width)
            query = self.q_norm(query.unflatten(-1, split)).flatten(-2)
            key = self.k_norm(key.unflatten(-1, split)).flatten(-2)
        return self.o_proj(attend(query, key, value, self.heads, frame))  # type: ignore[no-any-return]


class DecoderBlock(nn.Module):
    """One pre-norm transformer block."""

    def __init__(self, config: DecoderConfig, number: int) -> None:
        super().__init__()
        self.input_layernorm = nn.RMSNorm(config.width, eps=config.norm_eps)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = nn.RMSNorm(config.width, eps=config.norm_eps)
        experts = config.experts
        if experts is None or number in experts.dense_blocks:
            self.mlp: nn.Module = MLP(config.width, config.inner, config.mlp_bias)
        else:
            self.mlp = Experts(config.width, experts)

    def forward(self, x: Tensor, frame: Frame) -> Tensor:
        """Map hidden states [B, n, D] to the wanted positions."""
        x = frame.narrow(x) + self.self_attn(self.input_layernorm(x), frame)
        return x + self.mlp(self.post_attention_layernorm(x))  # type: ignore[no-any-return]


class DecoderBackbone(NativeBackbone):
    """A decoder; see `Backbone` for the interface. A shift is hidden."""

    def __init__(self, config: DecoderConfig, tokens: TokenIds, raw_config: dict[str, Any]) -> None:
        super().__init__(
            raw_config,
            tokens,
            config.vocab_size,
            config.width,
            config.heads,
            config.rope_theta,
            config.initializer_std,
        )
        self.config = config
        self.rope_scaling = config.rope_scaling
        self.rotary_width = round(config.heads.width * config.rotary_share)
        self.shifted = config.shifted
        self.block_size = config.block_size
        self.model = nn.ModuleDict(
            {
                "embed_tokens": nn.Embedding(config.vocab_size, config.width),
                "layers": nn.ModuleList(DecoderBlock(config, i) for i in range(config.depth)),
                "norm": nn.RMSNorm(config.width, eps=config.norm_eps),
            }
        )
        if not config.tied:
            self.lm_head = nn.Linear(config.width, config.vocab_size, bias=False)
        self.initialize()

    @property
    def blocks(self) -> nn.ModuleList:
        """The transformer blocks."""
        return self.model["layers"]  # type: ignore[return-value]

    @property
    def embedding(self) -> nn.Embedding:
        """The token embedding."""
        return self.model["embed_tokens"]  # type: ignore[return-value]

    @property
    def final_norm(self) -> nn.Module:
        """The normalisation before the head."""
        return self.model["norm"]

    @property
    def head(self) -> nn.Module:
        """The layer that makes logits."""
        return self.embedding if self.config.tied else self.lm_head

    def checkpoint_name(self, name: str) -> str:
        """What the original checkpoint calls a parameter."""
        for ours, theirs in self.config.names:
            name = name.replace(ours, theirs)
        return name

    def copies(self) -> Mapping[str, str]:
        """A tied checkpoint may hold its head beside the embedding."""
        if not self.config.tied:
            return {}
        return {self.checkpoint_name("lm_head.weight"): "model.embed_tokens.weight"}

    def grow_vocabulary(self, size: int) -> None:
        """Add rows for new tokens; they start as the mean of the old ones, whatever the seed."""
        tables: list[Any] = [self.embedding]
        if not self.config.tied:
            tables.append(self.lm_head)
        for table in tables:
            old = table.weight.detach()
            new = old.float().mean(dim=0).to(old.dtype).expand(size - len(old), -1)
            table.weight = nn.Parameter(torch.cat((old, new)))
        self.vocab_size = size
        sizes = {"vocab_size", "embedding_size"} & self.raw_config.keys()
        self.raw_config = self.raw_config | dict.fromkeys(sizes, size)
