"""The embedded backbone: a small bidirectional transformer that learns on a laptop's CPU.

Pre-norm blocks with rotary positions (Su et al., 2021), RMSNorm (Zhang & Sennrich, 2019) and SwiGLU
(Shazeer, 2020), full attention and no biases: LLaDA's architecture at a thousandth of the size.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

MODEL_TYPE = "igpo_tiny"


class TinyConfig(PreTrainedConfig):  # type: ignore[misc]
    """Sizes and special tokens of the embedded backbone, as saved in its config.json."""

    model_type = MODEL_TYPE

    def __init__(
        self,
        vocab_size: int = 512,
        hidden_size: int = 128,
        num_hidden_layers: int = 4,
        num_attention_heads: int = 4,
        intermediate_size: int = 384,
        rope_theta: float = 10_000.0,
        rms_norm_eps: float = 1e-5,
        mask_token_id: int = 0,
        eos_token_id: int = 1,
        pad_token_id: int = 2,
        tie_word_embeddings: bool = True,
        initializer_range: float = 0.02,
        **kwargs: Any,
    ) -> None:
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.intermediate_size = intermediate_size
        self.rope_theta = rope_theta
        self.rms_norm_eps = rms_norm_eps
        self.mask_token_id = mask_token_id
        self.initializer_range = initializer_range
        super().__init__(
            eos_token_id=eos_token_id,
            pad_token_id=pad_token_id,
            tie_word_embeddings=tie_word_embeddings,
            **kwargs,
        )


def rotary_angles(positions: Tensor, head_dim: int, theta: float) -> tuple[Tensor, Tensor]:
    """Cosine and sine [B, 1, L, head_dim] of rotary positions [B, L], in float32."""
    exponents = torch.arange(0, head_dim, 2, device=positions.device) / head_dim
    angles = positions[:, None, :, None].float() * theta ** -exponents  # [B, 1, L, head_dim / 2]
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Apply rotary positions to queries or keys [B, heads, L, head_dim]."""
    first, second = x.chunk(2, dim=-1)
    turned = torch.cat((-second, first), dim=-1)
    return (x * cos + turned * sin).to(x.dtype)


class TinyBlock(nn.Module):
    """One pre-norm transformer block with full attention."""

    def __init__(self, config: TinyConfig) -> None:
        super().__init__()
        width, inner = config.hidden_size, config.intermediate_size
        self.heads = config.num_attention_heads
        self.attention_norm = nn.RMSNorm(width, eps=config.rms_norm_eps)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.attention_out = nn.Linear(width, width, bias=False)
        self.mlp_norm = nn.RMSNorm(width, eps=config.rms_norm_eps)
        self.gate_up = nn.Linear(width, 2 * inner, bias=False)
        self.down = nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, key_mask: Tensor | None) -> Tensor:
        """Map hidden states [B, L, D]; `key_mask` [B, 1, 1, L] is True at keys that may be seen."""
        batch, length, width = x.shape
        qkv = self.qkv(self.attention_norm(x)).view(batch, length, 3, self.heads, -1)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # each [B, heads, L, head_dim]
        mixed = F.scaled_dot_product_attention(
            rotate(query, cos, sin), rotate(key, cos, sin), value, attn_mask=key_mask
        )
        x = x + self.attention_out(mixed.transpose(1, 2).reshape(batch, length, width))
        gate, up = self.gate_up(self.mlp_norm(x)).chunk(2, dim=-1)
        return x + self.down(F.silu(gate) * up)


class TinyBackbone(PreTrainedModel):  # type: ignore[misc]
    """The embedded masked diffusion model; see `Backbone` for the interface."""

    config_class = TinyConfig
    base_model_prefix = "model"
    _no_split_modules = ("TinyBlock",)

    def __init__(self, config: TinyConfig) -> None:
        super().__init__(config)
        self.embed = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(TinyBlock(config) for _ in range(config.num_hidden_layers))
        self.norm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        if not config.tie_word_embeddings:
            self.unembed = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.vocab_size: int = config.vocab_size
        self.mask_token_id: int = config.mask_token_id
        self.eos_token_id: int = config.eos_token_id
        self.pad_token_id: int = config.pad_token_id
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=self.config.initializer_range)
        elif isinstance(module, nn.RMSNorm):
            nn.init.ones_(module.weight)

    def encode(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Final hidden states [B, L, D] of `input_ids` [B, L]."""
        if attention_mask is None:
            key_mask = None
            positions = torch.arange(input_ids.shape[1], device=input_ids.device)[None]
        else:
            real = attention_mask.bool()
            key_mask = real[:, None, None, :]
            # Counting real tokens only gives a row the same positions however far it is padded.
            positions = (real.cumsum(dim=1) - 1).clamp(min=0)
        head_dim = self.config.hidden_size // self.config.num_attention_heads
        cos, sin = rotary_angles(positions, head_dim, self.config.rope_theta)
        x = self.embed(input_ids)
        for layer in self.layers:
            x = layer(x, cos, sin, key_mask)
        return self.norm(x)  # type: ignore[no-any-return]

    def project(self, hidden: Tensor) -> Tensor:
        """Logits [..., V] of hidden states [..., D]."""
        tied = self.config.tie_word_embeddings
        return F.linear(hidden, self.embed.weight if tied else self.unembed.weight)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Aligned logits [B, L, V] of `input_ids` [B, L]; `attention_mask` as in `Backbone`."""
        return self.project(self.encode(input_ids, attention_mask))
