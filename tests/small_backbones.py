"""Small random backbones of every native architecture."""

from typing import Any

import torch

from igpo_lightning.models.backbone import BackboneModule
from igpo_lightning.models.loading import NATIVE
from igpo_lightning.models.special_tokens import token_ids
from igpo_lightning.models.tiny import TinyConfig

VOCAB = 40
TOKENS = {"mask_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
CONFIGS: dict[str, dict[str, Any]] = {
    "tiny": {
        "model_type": "igpo_tiny",
        "vocab_size": VOCAB,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "initializer_range": 0.3,
        **TOKENS,
    },
    "llada": {
        "model_type": "llada",
        "d_model": 16,
        "n_heads": 4,
        "n_kv_heads": 2,
        "n_layers": 2,
        "mlp_hidden_size": 24,
        "vocab_size": VOCAB,
        "rope_theta": 500000.0,
        "rms_norm_eps": 1e-5,
        "weight_tying": False,
        "init_std": 0.3,
        **TOKENS,
    },
    "illada": {
        "model_type": "illada",
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": VOCAB,
        "tie_word_embeddings": True,
        "rope_theta": 500000.0,
        "rms_norm_eps": 1e-6,
        "initializer_range": 0.3,
        **TOKENS,
    },
    "sdar": {
        "model_type": "sdar",
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "vocab_size": VOCAB,
        "block_size": 3,
        "rope_theta": 1000000.0,
        "rms_norm_eps": 1e-6,
        "initializer_range": 0.3,
        **TOKENS,
    },
    "fast_dllm_v2": {
        "model_type": "Fast_dLLM_Qwen",
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": VOCAB,
        "bd_size": 3,
        "rope_theta": 1000000.0,
        "rms_norm_eps": 1e-6,
        "initializer_range": 0.3,
        **TOKENS,
    },
    "llada2": {
        "model_type": "llada2_moe",
        "hidden_size": 16,
        "intermediate_size": 24,
        "moe_intermediate_size": 12,
        "num_hidden_layers": 2,
        "first_k_dense_replace": 1,
        "num_experts": 8,
        "num_experts_per_tok": 2,
        "num_shared_experts": 1,
        "n_group": 4,
        "topk_group": 2,
        "routed_scaling_factor": 2.5,
        "partial_rotary_factor": 0.5,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "vocab_size": VOCAB,
        "block_size": 3,
        "rope_theta": 600000.0,
        "rms_norm_eps": 1e-6,
        "initializer_range": 0.3,
        **TOKENS,
    },
    "sdar_moe": {
        "model_type": "sdar_moe",
        "hidden_size": 16,
        "intermediate_size": 24,
        "moe_intermediate_size": 12,
        "num_hidden_layers": 2,
        "num_experts": 8,
        "num_experts_per_tok": 2,
        "norm_topk_prob": True,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "vocab_size": VOCAB,
        "block_size": 3,
        "rope_theta": 1000000.0,
        "rms_norm_eps": 1e-6,
        "initializer_range": 0.3,
        **TOKENS,
    },
    "dream": {
        "model_type": "Dream",
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": VOCAB,
        "rope_theta": 1000000.0,
        "rms_norm_eps": 1e-6,
        "initializer_range": 0.3,
        **TOKENS,
    },
}

BLOCK_CAUSAL = [name for name, raw in CONFIGS.items() if {"block_size", "bd_size"} & raw.keys()]
FULL = [name for name in CONFIGS if name not in BLOCK_CAUSAL]


ONE_LAYER = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}


def tiny_config(vocab_size: int, **sizes: Any) -> TinyConfig:
    """An embedded model of a few thousand parameters; `sizes` are entries of its config.json."""
    return TinyConfig(vocab_size=vocab_size, **ONE_LAYER | sizes)


def build_native(name: str, **changes: Any) -> BackboneModule:
    """A random backbone, the same in every call; `changes` are entries of its config.json."""
    raw = CONFIGS[name] | changes
    read, build = NATIVE[raw["model_type"]]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build(read(raw), token_ids(name, {"config.json": raw}), raw).eval()
        # Biases and norms that matter, so that a forgotten one shows.
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() == 1:
                    parameter.add_(0.2 * torch.randn_like(parameter))
    return model
