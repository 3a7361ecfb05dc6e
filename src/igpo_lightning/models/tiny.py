"""The embedded backbone: a small bidirectional transformer that learns on a laptop's CPU.

Pre-norm blocks with rotary positions (Su et al., 2021), RMSNorm (Zhang & Sennrich, 2019) and SwiGLU
(Shazeer, 2020), full attention and no biases: LLaDA's architecture at a thousandth of the size.
It is a `PreTrainedModel`, and importing this file teaches transformers' AutoModel its type.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel
from transformers.configuration_utils import PreTrainedConfig
from transformers.modeling_utils import PreTrainedModel

from igpo_lightning.errors import ConfigError
from igpo_lightning.models.attention import Frame, Heads, attend
from igpo_lightning.models.configuration import NO_SIZES, number, size
from igpo_lightning.models.cpu_first_layer import once_a_token
from igpo_lightning.models.special_tokens import TokenIds, token_ids
from igpo_lightning.models.transformer import NativeBackbone

MODEL_TYPE = "igpo_tiny"


class TinyConfig(PreTrainedConfig):  # type: ignore[no-untyped-call]
    """Sizes and special tokens of the embedded backbone, as saved in its config.json."""

    model_type: ClassVar[str] = MODEL_TYPE

    vocab_size: int = 512
    hidden_size: int = 128
    num_hidden_layers: int = 4
    num_attention_heads: int = 4
    intermediate_size: int = 384
    rope_theta: float = 10_000.0
    rms_norm_eps: float = 1e-5
    mask_token_id: int = 0
    eos_token_id: int = 1
    pad_token_id: int = 2
    tie_word_embeddings: bool = True
    initializer_range: float = 0.02

    @classmethod
    def read(cls, raw: Mapping[str, Any]) -> "TinyConfig":
        """Read config.json; entries that are not sizes of this model are carried along.

        Raises:
            ConfigError: A size is out of range, or the heads do not share the width evenly.
        """
        sizes = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads")
        checked: dict[str, Any] = {
            key: size(raw, key, getattr(cls, key)) for key in (*sizes, "intermediate_size")
        }
        for key in ("rope_theta", "rms_norm_eps", "initializer_range"):
            checked[key] = number(raw, key, getattr(cls, key))
        width, heads = checked["hidden_size"], checked["num_attention_heads"]
        if width % (2 * heads):
            raise ConfigError(
                f"config.json of the {MODEL_TYPE} model has hidden_size={width} and "
                f"num_attention_heads={heads}; a head needs an even number of channels"
            )
        carried = {key: value for key, value in raw.items() if key not in NO_SIZES}
        return cls(**carried | checked)

    def to_diff_dict(self) -> dict[str, Any]:
        """What goes into config.json: a function of the model alone, not of a library's version."""
        entries = super().to_diff_dict()
        return {key: value for key, value in entries.items() if key != "transformers_version"}


class TinyBlock(nn.Module):
    """One pre-norm transformer block with full attention."""

    def __init__(self, config: TinyConfig) -> None:
        super().__init__()
        width, inner = config.hidden_size, config.intermediate_size
        heads = config.num_attention_heads
        self.heads = Heads(heads, heads, width // heads)
        self.attention_norm = nn.RMSNorm(width, eps=config.rms_norm_eps)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.attention_out = nn.Linear(width, width, bias=False)
        self.mlp_norm = nn.RMSNorm(width, eps=config.rms_norm_eps)
        self.gate_up = nn.Linear(width, 2 * inner, bias=False)
        self.down = nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor, frame: Frame) -> Tensor:
        """Map hidden states [B, n, D]."""
        query, key, value = self._query_key_value(x, frame)
        mixed = attend(query, key, value, self.heads, frame)
        x = frame.narrow(x) + self.attention_out(mixed)
        gate, up = self.gate_up(self.mlp_norm(x)).chunk(2, dim=-1)
        return x + self.down(F.silu(gate) * up)

    def _query_key_value(self, x: Tensor, frame: Frame) -> tuple[Tensor, Tensor, Tensor]:
        """Queries at the wanted positions; keys and values at all of x [B, n, D]."""
        plain = type(self.qkv) is nn.Linear  # no adapter
        if plain and isinstance(frame.wanted, Tensor) and frame.tokens is None:
            x, width = self.attention_norm(x), x.shape[-1]
            query = F.linear(frame.narrow(x), self.qkv.weight[:width])
            key, value = F.linear(x, self.qkv.weight[width:]).chunk(2, dim=-1)
            return query, key, value
        if plain:
            mixed = once_a_token(lambda rows: self.qkv(self.attention_norm(rows)), x, frame.tokens)
        else:
            mixed = self.qkv(self.attention_norm(x))
        query, key, value = mixed.chunk(3, dim=-1)
        return frame.narrow(query), key, value


class TinyBackbone(NativeBackbone, PreTrainedModel):  # type: ignore[no-untyped-call]
    """The embedded masked diffusion model; see `Backbone` for the interface."""

    config_class = TinyConfig
    supports_gradient_checkpointing = True
    _input_embed_layer = "embed"

    def __init__(
        self,
        config: TinyConfig,
        tokens: TokenIds | None = None,
        raw_config: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(
            raw_config or config.to_diff_dict(),
            tokens or token_ids(MODEL_TYPE, {"config.json": config.to_dict()}),
            config.vocab_size,
            config.hidden_size,
            Heads(
                config.num_attention_heads,
                config.num_attention_heads,
                config.hidden_size // config.num_attention_heads,
            ),
            config.rope_theta,
            config.initializer_range,
            config,
        )
        self.embed = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(TinyBlock(config) for _ in range(config.num_hidden_layers))
        self.norm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.tied = config.tie_word_embeddings
        if not self.tied:
            self.unembed = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()  # type: ignore[no-untyped-call]

    def init_weights(self) -> None:
        """Random weights at the end of construction, drawn as in every native backbone."""
        self.initialize()

    @property
    def blocks(self) -> nn.ModuleList:
        """The transformer blocks."""
        return self.layers

    @property
    def embedding(self) -> nn.Embedding:
        """The token embedding."""
        return self.embed

    @property
    def final_norm(self) -> nn.Module:
        """The normalisation before the head."""
        return self.norm

    @property
    def head(self) -> nn.Module:
        """The layer that makes logits."""
        return self.embedding if self.tied else self.unembed


AutoConfig.register(MODEL_TYPE, TinyConfig)
AutoModel.register(TinyConfig, TinyBackbone)
