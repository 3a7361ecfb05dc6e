"""Dream-7B (arXiv 2508.15487): Qwen2's architecture with full attention and logits shifted by one.

The checkpoint's logits at position i - 1 predict token i; the base class hides that. Parameter
names are the public checkpoint's.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from igpo_lightning.models.configuration import check_switches, entry
from igpo_lightning.models.special_tokens import TokenIds
from igpo_lightning.models.transformer import Frame, Heads, NativeBackbone, attend

MODEL_TYPE = "Dream"

# Switches of the public configuration that the released checkpoints leave: what they must be.
FIXED: dict[str, tuple[Any, ...]] = {
    "hidden_act": ("silu",),
    "rope_scaling": (None,),
    "use_sliding_window": (False,),
}


@dataclass(frozen=True)
class DreamConfig:
    """Sizes of a Dream model under the names of its config.json."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    vocab_size: int
    rope_theta: float
    rms_norm_eps: float
    tie_word_embeddings: bool
    initializer_range: float

    @classmethod
    def read(cls, raw: Mapping[str, Any]) -> "DreamConfig":
        """Read config.json.

        Raises:
            ConfigError: A switch is set in a way that no released Dream has.
        """
        check_switches(raw, FIXED)
        return cls(
            hidden_size=entry(raw, "hidden_size"),
            intermediate_size=entry(raw, "intermediate_size"),
            num_hidden_layers=entry(raw, "num_hidden_layers"),
            num_attention_heads=entry(raw, "num_attention_heads"),
            num_key_value_heads=raw.get("num_key_value_heads") or entry(raw, "num_attention_heads"),
            vocab_size=entry(raw, "vocab_size"),
            rope_theta=entry(raw, "rope_theta"),
            rms_norm_eps=entry(raw, "rms_norm_eps"),
            tie_word_embeddings=raw.get("tie_word_embeddings", False),
            initializer_range=raw.get("initializer_range", 0.02),
        )

    @property
    def heads(self) -> Heads:
        """How the channels split into heads."""
        width = self.hidden_size // self.num_attention_heads
        return Heads(self.num_attention_heads, self.num_key_value_heads, width)


class DreamAttention(nn.Module):
    """Grouped-query attention with biases on queries, keys and values."""

    def __init__(self, config: DreamConfig) -> None:
        super().__init__()
        self.heads = config.heads
        width, keys = config.hidden_size, self.heads.keys * self.heads.width
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, keys)
        self.v_proj = nn.Linear(width, keys)
        self.o_proj = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, frame: Frame) -> Tensor:
        """Map normalised hidden states [B, n, D]."""
        query = self.q_proj(frame.narrow(x))
        mixed = attend(query, self.k_proj(x), self.v_proj(x), self.heads, frame)
        return self.o_proj(mixed)


class DreamMLP(nn.Module):
    """SwiGLU (Shazeer, 2020)."""

    def __init__(self, config: DreamConfig) -> None:
        super().__init__()
        width, inner = config.hidden_size, config.intermediate_size
        self.gate_proj = nn.Linear(width, inner, bias=False)
        self.up_proj = nn.Linear(width, inner, bias=False)
        self.down_proj = nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map normalised hidden states [B, n, D]."""
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class DreamBlock(nn.Module):
    """One pre-norm transformer block with full attention."""

    def __init__(self, config: DreamConfig) -> None:
        super().__init__()
        self.input_layernorm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.self_attn = DreamAttention(config)
        self.post_attention_layernorm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.mlp = DreamMLP(config)

    def forward(self, x: Tensor, frame: Frame) -> Tensor:
        """Map hidden states [B, n, D]."""
        x = frame.narrow(x) + self.self_attn(self.input_layernorm(x), frame)
        return x + self.mlp(self.post_attention_layernorm(x))


class DreamBackbone(NativeBackbone):
    """Dream; see `Backbone` for the interface. Its shift is hidden."""

    shifted: ClassVar = True
    linear_names: ClassVar = (
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
    )

    def __init__(self, config: DreamConfig, tokens: TokenIds, raw_config: dict[str, Any]) -> None:
        super().__init__(
            raw_config,
            tokens,
            config.vocab_size,
            config.hidden_size,
            config.heads,
            config.rope_theta,
            config.initializer_range,
        )
        self.model = nn.ModuleDict(
            {
                "embed_tokens": nn.Embedding(config.vocab_size, config.hidden_size),
                "layers": nn.ModuleList(
                    DreamBlock(config) for _ in range(config.num_hidden_layers)
                ),
                "norm": nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps),
            }
        )
        self.tied = config.tie_word_embeddings
        if not self.tied:
            self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
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
        return self.embedding if self.tied else self.lm_head
