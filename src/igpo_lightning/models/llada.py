"""LLaDA (arXiv 2502.09992): LLaDA-8B-Base, LLaDA-8B-Instruct, LLaDA-1.5 in their own names.

A Llama block (RMSNorm, rotary positions, SwiGLU, no biases) with full attention. Parameter names
are the public checkpoints', so that exports load in the public code.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from igpo_lightning.models.configuration import check_switches, entry
from igpo_lightning.models.special_tokens import TokenIds
from igpo_lightning.models.transformer import Frame, Heads, NativeBackbone, attend

MODEL_TYPE = "llada"

# Switches of the public configuration that no released checkpoint turns: what they must be.
FIXED: dict[str, tuple[Any, ...]] = {
    "block_type": ("llama",),
    "block_group_size": (1,),
    "activation_type": ("silu",),
    "layer_norm_type": ("rms",),
    "rope": (True,),
    "alibi": (False,),
    "attention_layer_norm": (False,),
    "input_emb_norm": (False,),
    "scale_logits": (False,),
    "include_bias": (False,),
    "include_qkv_bias": (False, None),
    "multi_query_attention": (False, None),
}


@dataclass(frozen=True)
class LladaConfig:
    """Sizes of a LLaDA model under the names of its config.json."""

    d_model: int
    n_heads: int
    n_kv_heads: int
    n_layers: int
    mlp_hidden_size: int
    vocab_size: int
    embedding_size: int
    rope_theta: float
    rms_norm_eps: float
    weight_tying: bool
    init_std: float

    @classmethod
    def read(cls, raw: Mapping[str, Any]) -> "LladaConfig":
        """Read config.json.

        Raises:
            ConfigError: A switch is set in a way that no released LLaDA has, or a size is missing.
        """
        check_switches(raw, FIXED)
        width, heads, vocab = entry(raw, "d_model"), entry(raw, "n_heads"), entry(raw, "vocab_size")
        return cls(
            d_model=width,
            n_heads=heads,
            n_kv_heads=raw.get("n_kv_heads") or heads,
            n_layers=entry(raw, "n_layers"),
            mlp_hidden_size=raw.get("mlp_hidden_size") or entry(raw, "mlp_ratio") * width,
            vocab_size=vocab,
            embedding_size=raw.get("embedding_size") or vocab,
            rope_theta=entry(raw, "rope_theta"),
            rms_norm_eps=entry(raw, "rms_norm_eps"),
            weight_tying=entry(raw, "weight_tying"),
            init_std=raw.get("init_std", 0.02),
        )

    @property
    def heads(self) -> Heads:
        """How the channels split into heads."""
        return Heads(self.n_heads, self.n_kv_heads, self.d_model // self.n_heads)


class LladaBlock(nn.Module):
    """One pre-norm transformer block with full attention."""

    def __init__(self, config: LladaConfig) -> None:
        super().__init__()
        width, inner = config.d_model, config.mlp_hidden_size
        self.heads = config.heads
        keys = self.heads.keys * self.heads.width
        self.attn_norm = nn.RMSNorm(width, eps=config.rms_norm_eps)
        self.q_proj = nn.Linear(width, width, bias=False)
        self.k_proj = nn.Linear(width, keys, bias=False)
        self.v_proj = nn.Linear(width, keys, bias=False)
        self.attn_out = nn.Linear(width, width, bias=False)
        self.ff_norm = nn.RMSNorm(width, eps=config.rms_norm_eps)
        self.ff_proj = nn.Linear(width, inner, bias=False)
        self.up_proj = nn.Linear(width, inner, bias=False)
        self.ff_out = nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor, frame: Frame) -> Tensor:
        """Map hidden states [B, n, D]."""
        normed = self.attn_norm(x)
        query = self.q_proj(frame.narrow(normed))
        mixed = attend(query, self.k_proj(normed), self.v_proj(normed), self.heads, frame)
        x = frame.narrow(x) + self.attn_out(mixed)
        normed = self.ff_norm(x)
        return x + self.ff_out(F.silu(self.ff_proj(normed)) * self.up_proj(normed))


class LladaBackbone(NativeBackbone):
    """LLaDA; see `Backbone` for the interface."""

    linear_names: ClassVar = (
        "q_proj",
        "k_proj",
        "v_proj",
        "attn_out",
        "ff_proj",
        "up_proj",
        "ff_out",
    )

    def __init__(self, config: LladaConfig, tokens: TokenIds, raw_config: dict[str, Any]) -> None:
        super().__init__(
            raw_config,
            tokens,
            config.embedding_size,
            config.d_model,
            config.heads,
            config.rope_theta,
            config.init_std,
        )
        transformer = nn.ModuleDict(
            {
                "wte": nn.Embedding(config.embedding_size, config.d_model),
                "blocks": nn.ModuleList(LladaBlock(config) for _ in range(config.n_layers)),
                "ln_f": nn.RMSNorm(config.d_model, eps=config.rms_norm_eps),
            }
        )
        if not config.weight_tying:
            transformer["ff_out"] = nn.Linear(config.d_model, config.embedding_size, bias=False)
        self.model = nn.ModuleDict({"transformer": transformer})
        self.tied = config.weight_tying
        self.initialize()

    @property
    def transformer(self) -> nn.ModuleDict:
        """The container that gives the public names their middle part."""
        return self.model["transformer"]  # type: ignore[return-value]

    @property
    def blocks(self) -> nn.ModuleList:
        """The transformer blocks."""
        return self.transformer["blocks"]  # type: ignore[return-value]

    @property
    def embedding(self) -> nn.Embedding:
        """The token embedding."""
        return self.transformer["wte"]  # type: ignore[return-value]

    @property
    def final_norm(self) -> nn.Module:
        """The normalisation before the head."""
        return self.transformer["ln_f"]

    @property
    def head(self) -> nn.Module:
        """The layer that makes logits."""
        return self.embedding if self.tied else self.transformer["ff_out"]
