"""Which decoder a config.json describes: one function a family, found by `model_type`.

A rope base or a norm epsilon that is absent is refused, never guessed: a wrong one changes every
logit and breaks nothing visible.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from igpo_lightning.errors import ConfigError
from igpo_lightning.models.attention import Heads, RopeScaling
from igpo_lightning.models.configuration import check_switches, entry
from igpo_lightning.models.decoder import DecoderConfig
from igpo_lightning.models.experts import ExpertsConfig

Raw = Mapping[str, Any]
SHIFT_KEY = "shifted_logits"  # of config.json: written by exports of decoders

# Switches that no supported checkpoint turns: what they must be.
FIXED: dict[str, tuple[Any, ...]] = {
    "hidden_act": ("silu",),
    "use_sliding_window": (False,),
}
LLADA_FIXED: dict[str, tuple[Any, ...]] = {
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
LLADA2_FIXED: dict[str, tuple[Any, ...]] = {
    "use_qk_norm": (True,),
    "use_qkv_bias": (False,),
    "use_bias": (False,),
    "use_rmsnorm": (True,),
    "score_function": ("sigmoid",),
    "moe_router_enable_expert_bias": (True,),
    "norm_head": (False,),
    "norm_softmax": (False,),
    "using_split_qkv_in_self_attention": (False,),
}
LLADA_NAMES = (
    ("model.embed_tokens.", "model.transformer.wte."),
    ("model.layers.", "model.transformer.blocks."),
    ("model.norm.", "model.transformer.ln_f."),
    ("lm_head.", "model.transformer.ff_out."),
    (".input_layernorm.", ".attn_norm."),
    (".self_attn.o_proj.", ".attn_out."),
    (".self_attn.", "."),
    (".post_attention_layernorm.", ".ff_norm."),
    (".mlp.gate_proj.", ".ff_proj."),
    (".mlp.down_proj.", ".ff_out."),
    (".mlp.", "."),
)
LLADA2_NAMES = (
    ("model.embed_tokens.", "model.word_embeddings."),
    (".self_attn.qkv_proj.", ".attention.query_key_value."),
    (".self_attn.q_norm.", ".attention.query_layernorm."),
    (".self_attn.k_norm.", ".attention.key_layernorm."),
    (".self_attn.o_proj.", ".attention.dense."),
)


def llama(raw: Raw) -> DecoderConfig:
    """Llama, and what the families after it share: sizes, norm, rotary positions."""
    check_switches(raw, FIXED)
    kinds = set(raw.get("layer_types") or ["full_attention"])
    if kinds != {"full_attention"}:
        raise ConfigError(
            f"config.json of the {raw['model_type']} model has layer_types={raw['layer_types']}; "
            "supported: full_attention alone (use_sliding_window: false)"
        )
    width, queries = entry(raw, "hidden_size"), entry(raw, "num_attention_heads")
    heads = Heads(
        queries=queries,
        keys=raw.get("num_key_value_heads") or queries,
        width=raw.get("head_dim") or width // queries,
    )
    biased = bool(raw.get("attention_bias"))
    return DecoderConfig(
        width=width,
        inner=entry(raw, "intermediate_size"),
        depth=entry(raw, "num_hidden_layers"),
        heads=heads,
        vocab_size=entry(raw, "vocab_size"),
        norm_eps=entry(raw, "rms_norm_eps"),
        rope_theta=_rope_theta(raw),
        rope_scaling=_rope_scaling(raw),
        tied=bool(raw.get("tie_word_embeddings", False)),
        qkv_bias=biased,
        output_bias=biased,
        mlp_bias=bool(raw.get("mlp_bias")),
        shifted=bool(raw.get(SHIFT_KEY, False)),
        initializer_std=raw.get("initializer_range", 0.02),
    )


def _rope_theta(raw: Raw) -> float:
    """The base of the rotary positions."""
    # transformers 5 writes `rope_parameters` in place of the two older entries.
    parameters = raw.get("rope_parameters") or {}
    return float(
        parameters["rope_theta"] if "rope_theta" in parameters else entry(raw, "rope_theta")
    )


def _rope_scaling(raw: Raw) -> RopeScaling | None:
    """How rotary positions are stretched for long contexts."""
    scaling = raw.get("rope_scaling") or raw.get("rope_parameters") or {}
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    needed = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
    if kind == "llama3" and all(scaling.get(name) is not None for name in needed):
        factor, low, high, context = (scaling[name] for name in needed)
        return RopeScaling(float(factor), float(low), float(high), int(context))
    if kind != "default" or "factor" in scaling:
        raise ConfigError(
            f"config.json of the {raw['model_type']} model has rope_scaling={scaling!r}; "
            f"supported: None, and rope_type llama3 with {', '.join(needed)}"
        )
    return None


def qwen2(raw: Raw) -> DecoderConfig:
    """Qwen2 and Qwen2.5: Llama with biases on queries, keys and values."""
    return replace(llama(raw), qkv_bias=True, output_bias=False)


def qwen3(raw: Raw) -> DecoderConfig:
    """Qwen3: Llama with norms on queries and keys."""
    return replace(llama(raw), qk_norm=True)


def illada(raw: Raw) -> DecoderConfig:
    """iLLaDA (arXiv 2606.25331): Llama with full attention."""
    check_switches(raw, {"layer_norm_eps": (None,)})
    return replace(llama(raw), tied=bool(entry(raw, "tie_word_embeddings")))


def sdar(raw: Raw) -> DecoderConfig:
    """SDAR, TraDo, DreamReasoner (arXiv 2606.19257): Qwen3 with block-causal attention."""
    return replace(qwen3(raw), block_size=raw.get("block_size", 4))


def sdar_moe(raw: Raw) -> DecoderConfig:
    """SDAR-30B-A3B: Qwen3-MoE with block-causal attention."""
    depth, step = entry(raw, "num_hidden_layers"), raw.get("decoder_sparse_step", 1)
    dense = set(raw.get("mlp_only_layers") or ()) | {i for i in range(depth) if (i + 1) % step}
    experts = ExpertsConfig(
        count=entry(raw, "num_experts"),
        chosen=entry(raw, "num_experts_per_tok"),
        width=entry(raw, "moe_intermediate_size"),
        normalized=bool(entry(raw, "norm_topk_prob")),
        dense_blocks=frozenset(dense),
    )
    return replace(sdar(raw), experts=experts)


def dream(raw: Raw) -> DecoderConfig:
    """Dream-7B (arXiv 2508.15487): Qwen2 with full attention and its shift."""
    return replace(qwen2(raw), shifted=bool(raw.get(SHIFT_KEY, True)))


def fast_dllm(raw: Raw) -> DecoderConfig:
    """Fast-dLLM v2: Qwen2 with block-causal attention and its shift."""
    return replace(
        qwen2(raw), block_size=entry(raw, "bd_size"), shifted=bool(raw.get(SHIFT_KEY, True))
    )


def llada(raw: Raw) -> DecoderConfig:
    """LLaDA-8B and LLaDA-1.5 (arXiv 2502.09992): Llama with names of its own."""
    check_switches(raw, LLADA_FIXED)
    width, heads = entry(raw, "d_model"), entry(raw, "n_heads")
    return DecoderConfig(
        width=width,
        inner=raw.get("mlp_hidden_size") or entry(raw, "mlp_ratio") * width,
        depth=entry(raw, "n_layers"),
        heads=Heads(heads, raw.get("n_kv_heads") or heads, width // heads),
        vocab_size=raw.get("embedding_size") or entry(raw, "vocab_size"),
        norm_eps=entry(raw, "rms_norm_eps"),
        rope_theta=entry(raw, "rope_theta"),
        tied=entry(raw, "weight_tying"),
        initializer_std=raw.get("init_std", 0.02),
        names=LLADA_NAMES,
    )


def llada2(raw: Raw) -> DecoderConfig:
    """LLaDA 2.0 and 2.1: experts, half of a head's channels rotate, block-causal attention."""
    check_switches(raw, LLADA2_FIXED)
    width = entry(raw, "moe_intermediate_size")
    experts = ExpertsConfig(
        count=entry(raw, "num_experts"),
        chosen=entry(raw, "num_experts_per_tok"),
        width=width,
        sigmoid=True,
        shared_width=width * (raw.get("num_shared_experts") or 0),
        groups=entry(raw, "n_group"),
        chosen_groups=entry(raw, "topk_group"),
        scale=entry(raw, "routed_scaling_factor"),
        dense_blocks=frozenset(range(entry(raw, "first_k_dense_replace"))),
    )
    return replace(
        llama(raw),
        qk_norm=True,
        fused_qkv=True,
        rotary_share=entry(raw, "partial_rotary_factor"),
        block_size=raw.get("block_size", 32),
        experts=experts,
        names=LLADA2_NAMES,
    )


def _causal(read: Callable[[Raw], DecoderConfig]) -> Callable[[Raw], DecoderConfig]:
    """A causal decoder run with full attention: its logits at i - 1 predict token i."""
    return lambda raw: replace(read(raw), shifted=bool(raw.get(SHIFT_KEY, True)))


@dataclass(frozen=True)
class Family:
    """How a `model_type` is read.

    Attributes:
        read: config.json to the decoder's configuration.
        tokens: Special tokens of the public checkpoints, for what their files leave out.
        chat: Rows end with the end-of-turn token of the chat template, not with config.json's EOS.
        converted: A decoder that an export tells its mask token and shift.
    """

    read: Callable[[Raw], DecoderConfig]
    tokens: Mapping[str, int]
    chat: bool = False
    converted: bool = False


_QWEN3_MASK = {"mask_token_id": 151669}

FAMILIES: dict[str, Family] = {
    "llada": Family(llada, {}),
    "illada": Family(illada, {"mask_token_id": 5, "eos_token_id": 2, "pad_token_id": 1}),
    "Dream": Family(dream, {}),
    "sdar": Family(sdar, _QWEN3_MASK, chat=True),
    "sdar_moe": Family(sdar_moe, _QWEN3_MASK, chat=True),
    "Fast_dLLM_Qwen": Family(fast_dllm, {"mask_token_id": 151665}, chat=True),
    "llada2_moe": Family(llada2, {"mask_token_id": 156895, "eos_token_id": 156892}),
    "llama": Family(_causal(llama), {}, chat=True, converted=True),
    "qwen2": Family(_causal(qwen2), {}, chat=True, converted=True),
    "qwen3": Family(_causal(qwen3), {}, chat=True, converted=True),
    # The public sampler of the A2D conversions does not shift.
    "a2d-llama": Family(llama, {}, chat=True, converted=True),
    "a2d-qwen2": Family(qwen2, {}, chat=True, converted=True),
    "a2d-qwen3": Family(qwen3, {}, chat=True, converted=True),
}

# The same `model_type` as Dream-7B, and a block size.
DREAM_REASONER = Family(sdar, _QWEN3_MASK, chat=True)


def family_of(raw: Raw) -> Family | None:
    """The family of a config.json; None where it is no decoder of this file."""
    if raw["model_type"] == "Dream" and raw.get("block_size") is not None:
        return DREAM_REASONER
    return FAMILIES.get(raw["model_type"])


def read_decoder(raw: Raw) -> DecoderConfig:
    """The decoder that a config.json describes.

    Raises:
        ConfigError: An entry is missing, or set in a way that no supported checkpoint has.
    """
    family = family_of(raw)
    assert family is not None
    return family.read(raw)
