"""Which decoder a config.json describes: one function a family, found by `model_type`.

A rope base or a norm epsilon that is absent is refused, never guessed: a wrong one changes every
logit and breaks nothing visible.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from igpo_lightning.errors import ConfigError
from igpo_lightning.models.attention import Heads, RopeScaling
from igpo_lightning.models.configuration import (
    LARGEST_SIZE,
    MOST_LAYERS,
    check_switches,
    entry,
    items,
    number,
    size,
)
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
    if set(items(raw, "layer_types")) - {"full_attention"}:
        raise ConfigError(
            f"config.json of the {raw['model_type']} model has layer_types={raw['layer_types']}; "
            "supported: full_attention alone (use_sliding_window: false)"
        )
    width, queries = size(raw, "hidden_size"), size(raw, "num_attention_heads")
    heads = Heads(
        queries=queries,
        keys=size(raw, "num_key_value_heads", queries),
        width=size(raw, "head_dim", width // queries),
    )
    biased = bool(raw.get("attention_bias"))
    return DecoderConfig(
        width=width,
        inner=size(raw, "intermediate_size"),
        depth=size(raw, "num_hidden_layers"),
        heads=heads,
        vocab_size=size(raw, "vocab_size"),
        norm_eps=number(raw, "rms_norm_eps"),
        rope_theta=_rope_theta(raw),
        rope_scaling=_rope_scaling(raw),
        tied=bool(raw.get("tie_word_embeddings", False)),
        qkv_bias=biased,
        output_bias=biased,
        mlp_bias=bool(raw.get("mlp_bias")),
        shifted=bool(raw.get(SHIFT_KEY, False)),
        initializer_std=number(raw, "initializer_range", 0.02),
    )


def _rope_theta(raw: Raw) -> float:
    """The base of the rotary positions."""
    # transformers 5 writes `rope_parameters` in place of the two older entries.
    parameters = raw.get("rope_parameters") or {}
    model_type = {"model_type": raw["model_type"]}
    if not isinstance(parameters, dict):
        raise ConfigError(
            f"config.json of the {raw['model_type']} model has rope_parameters={parameters!r}; "
            "give a JSON object"
        )
    return number(raw if "rope_theta" not in parameters else parameters | model_type, "rope_theta")


def _rope_scaling(raw: Raw) -> RopeScaling | None:
    """How rotary positions are stretched for long contexts."""
    scaling = raw.get("rope_scaling") or raw.get("rope_parameters") or {}
    if not isinstance(scaling, dict):
        raise ConfigError(
            f"config.json of the {raw['model_type']} model has rope_scaling={scaling!r}; give a "
            "JSON object"
        )
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    needed = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
    if kind == "llama3" and all(scaling.get(name) is not None for name in needed):
        stretched = scaling | {"model_type": raw["model_type"]}
        factor, low, high = (number(stretched, name) for name in needed[:3])
        return RopeScaling(factor, low, high, size(stretched, needed[3]))
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
    return replace(qwen3(raw), block_size=size(raw, "block_size", 4))


def sdar_moe(raw: Raw) -> DecoderConfig:
    """SDAR-30B-A3B: Qwen3-MoE with block-causal attention."""
    depth, step = size(raw, "num_hidden_layers"), size(raw, "decoder_sparse_step", 1)
    dense = set(items(raw, "mlp_only_layers")) | {i for i in range(depth) if (i + 1) % step}
    experts = ExpertsConfig(
        count=size(raw, "num_experts"),
        chosen=size(raw, "num_experts_per_tok"),
        width=size(raw, "moe_intermediate_size"),
        normalized=bool(entry(raw, "norm_topk_prob")),
        dense_blocks=frozenset(block for block in dense if isinstance(block, int)),
    )
    return replace(sdar(raw), experts=experts)


def dream(raw: Raw) -> DecoderConfig:
    """Dream-7B (arXiv 2508.15487): Qwen2 with full attention and its shift."""
    return replace(qwen2(raw), shifted=bool(raw.get(SHIFT_KEY, True)))


def fast_dllm(raw: Raw) -> DecoderConfig:
    """Fast-dLLM v2: Qwen2 with block-causal attention and its shift."""
    return replace(
        qwen2(raw), block_size=size(raw, "bd_size"), shifted=bool(raw.get(SHIFT_KEY, True))
    )


def llada(raw: Raw) -> DecoderConfig:
    """LLaDA-8B and LLaDA-1.5 (arXiv 2502.09992): Llama with names of its own."""
    check_switches(raw, LLADA_FIXED)
    width, heads = size(raw, "d_model"), size(raw, "n_heads")
    own_inner = raw.get("mlp_hidden_size") is not None
    return DecoderConfig(
        width=width,
        inner=size(raw, "mlp_hidden_size") if own_inner else size(raw, "mlp_ratio") * width,
        depth=size(raw, "n_layers"),
        heads=Heads(heads, size(raw, "n_kv_heads", heads), width // heads),
        vocab_size=size(raw, "embedding_size" if raw.get("embedding_size") else "vocab_size"),
        norm_eps=number(raw, "rms_norm_eps"),
        rope_theta=number(raw, "rope_theta"),
        tied=bool(entry(raw, "weight_tying")),
        initializer_std=number(raw, "init_std", 0.02),
        names=LLADA_NAMES,
    )


def llada2(raw: Raw) -> DecoderConfig:
    """LLaDA 2.0 and 2.1: experts, half of a head's channels rotate, block-causal attention."""
    check_switches(raw, LLADA2_FIXED)
    width, shared = size(raw, "moe_intermediate_size"), raw.get("num_shared_experts")
    # No dense block at all is a count, too.
    dense = size(raw, "first_k_dense_replace") if entry(raw, "first_k_dense_replace") else 0
    experts = ExpertsConfig(
        count=size(raw, "num_experts"),
        chosen=size(raw, "num_experts_per_tok"),
        width=width,
        sigmoid=True,
        shared_width=width * (size(raw, "num_shared_experts") if shared else 0),
        groups=size(raw, "n_group"),
        chosen_groups=size(raw, "topk_group"),
        scale=number(raw, "routed_scaling_factor"),
        dense_blocks=frozenset(range(min(dense, MOST_LAYERS))),
    )
    return replace(
        llama(raw),
        qk_norm=True,
        fused_qkv=True,
        rotary_share=number(raw, "partial_rotary_factor"),
        block_size=size(raw, "block_size", 32),
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
    config = family.read(raw)
    _check_parts(raw["model_type"], config)
    return config


def _check_parts(model_type: str, config: DecoderConfig) -> None:
    """Refuse sizes that do not divide each other as a decoder's must."""
    heads, experts = config.heads, config.experts
    rules = {
        f"{heads.queries} heads over {heads.keys} of keys": heads.queries % heads.keys == 0,
        f"heads of {heads.width} channels, which rotate in pairs": heads.width >= 2
        and round(heads.width * config.rotary_share) % 2 == 0,
        f"a share {config.rotary_share} of channels that rotate": config.rotary_share <= 1,
        f"{heads.queries} heads of {heads.width} channels": heads.queries * heads.width
        <= LARGEST_SIZE,
        f"{config.inner} channels inside its MLP": config.inner <= LARGEST_SIZE,
    }
    if experts is not None:
        rules |= {
            f"{experts.chosen} of {experts.count} experts": experts.chosen <= experts.count,
            f"{experts.count} experts in {experts.groups} groups of which {experts.chosen_groups} "
            "are chosen": experts.count % experts.groups == 0
            and experts.chosen_groups <= experts.groups,
            f"{experts.count} experts in each of {config.depth} blocks": experts.count
            * config.depth
            <= _MOST_EXPERTS,
        }
    for told, holds in rules.items():
        if not holds:
            raise ConfigError(
                f"config.json of the {model_type} model asks for {told}, which no decoder has"
            )


_MOST_EXPERTS = 100_000  # of all blocks; the largest public models have under 20,000
