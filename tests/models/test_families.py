"""Which decoder a config.json describes, which tokens it has, and what is refused."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from igpo_lightning.errors import ConfigError
from igpo_lightning.models import load_backbone, save_export
from igpo_lightning.models.families import FAMILIES, family_of, read_decoder
from igpo_lightning.models.special_tokens import report_once
from igpo_lightning.models.tokenizer import train_tokenizer
from tests.small_backbones import CONFIGS

SIZES = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 300,
    "rope_theta": 10000.0,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
}


def config_folder(folder: Path, **config: Any) -> str:
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


def test_a_block_size_tells_dreamreasoner_from_dream() -> None:
    """Dream-7B is Qwen2 with a shift; DreamReasoner is Qwen3, block-causal and without one."""
    dream = read_decoder({"model_type": "Dream", **SIZES})
    reasoner = read_decoder({"model_type": "Dream", "block_size": 32, **SIZES})
    assert (dream.block_size, dream.shifted, dream.qk_norm, dream.qkv_bias) == (
        None,
        True,
        False,
        True,
    )
    assert reasoner == read_decoder({"model_type": "sdar", "block_size": 32, **SIZES})
    assert (reasoner.block_size, reasoner.shifted, reasoner.qk_norm) == (32, False, True)


def test_ids_that_public_files_leave_out(tmp_path: Path) -> None:
    """iLLaDA's config.json has no mask token: it is 5. SDAR-30B's is that of the smaller ones."""
    path = config_folder(tmp_path, model_type="illada", eos_token_id=2, **SIZES)
    model = load_backbone(path, random_init=True)
    assert (model.mask_token_id, model.eos_token_id, model.pad_token_id) == (5, 2, 1)
    assert family_of({"model_type": "sdar_moe"}).tokens["mask_token_id"] == 151669


@pytest.mark.parametrize("missing", ["rope_theta", "rms_norm_eps"])
@pytest.mark.parametrize("model_type", sorted(FAMILIES))
def test_rope_base_and_norm_epsilon_are_never_guessed(model_type: str, missing: str) -> None:
    everything = (
        SIZES | CONFIGS["llada2"] | CONFIGS["llada"] | {"bd_size": 3, "model_type": model_type}
    )
    everything |= {"norm_topk_prob": True}
    read_decoder(everything)
    without = {key: value for key, value in everything.items() if key != missing}
    with pytest.raises(ConfigError, match=f"has no {missing}"):
        read_decoder(without)


def test_a_norm_with_a_mean_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"layer_norm_eps=1e-05; supported: None"):
        read_decoder({"model_type": "illada", "layer_norm_eps": 1e-5, **SIZES})


CHAT = "{% for m in messages %}<|user|>{{ m['content'] }}<|end|>{% endfor %}"


def chat_model(folder: Path, model_type: str, **config: Any) -> str:
    """A folder whose tokenizer has EOS 1 and pad 2, and whose template ends turns with another."""
    tokenizer = train_tokenizer(["question answer"], vocab_size=290)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|user|>", "<|end|>"]})
    tokenizer.chat_template = CHAT
    raw = {"model_type": model_type, "mask_token_id": 0, "eos_token_id": 1, **SIZES, **config}
    model = load_backbone(config_folder(folder, **raw), random_init=True)
    save_export(model, tokenizer, folder)
    return str(folder)


def test_a_decoders_rows_end_with_its_templates_end_of_turn(tmp_path: Path, caplog) -> None:
    report_once.cache_clear()
    path = chat_model(tmp_path, "sdar", block_size=4)
    with caplog.at_level(logging.WARNING):
        model = load_backbone(path)
        load_backbone(path)
    assert model.eos_token_id != 1
    said = [r.getMessage() for r in caplog.records if "eos_token_id" in r.getMessage()]
    assert len(said) == 1
    assert f"eos_token_id is {model.eos_token_id}, from the chat template" in said[0]
    assert "config.json has [1]" in said[0]
    assert load_backbone(path, token_overrides={"eos_token_id": 1}).eos_token_id == 1


def test_files_that_disagree_are_told_and_config_json_is_used(tmp_path: Path, caplog) -> None:
    path = chat_model(tmp_path, "illada", pad_token_id=7)
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [9, 8]}))
    report_once.cache_clear()
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        model = load_backbone(path)
    assert (model.eos_token_id, model.pad_token_id) == (1, 7)
    said = " ".join(r.getMessage() for r in caplog.records)
    assert "eos_token_id is 1, from config.json" in said
    assert "generation_config.json has [9, 8]" in said
    assert "pad_token_id is 7, from config.json" in said
    assert "the tokenizer has [2]" in said


def test_a_tied_head_may_stand_in_the_file(tmp_path: Path) -> None:
    """Beside the embedding it is accepted if it is the same, and refused if it is another."""
    from safetensors.torch import load_file, save_file

    path = chat_model(tmp_path, "illada", tie_word_embeddings=True)
    file = tmp_path / "model.safetensors"
    weights = load_file(file)
    assert "lm_head.weight" not in weights
    table = weights["model.embed_tokens.weight"]
    save_file(weights | {"lm_head.weight": table.clone()}, file, metadata={"format": "pt"})
    assert torch.equal(load_backbone(path).embedding.weight, table)
    save_file(weights | {"lm_head.weight": table + 1}, file, metadata={"format": "pt"})
    with pytest.raises(ConfigError, match=r"ties lm_head\.weight to model\.embed_tokens\.weight"):
        load_backbone(path)


def test_every_expert_gets_a_gradient_and_the_routers_bias_none(native, tokens) -> None:
    """Data-parallel ranks route to different experts and must still agree about gradients."""
    model = native("llada2")
    model(tokens(1, 2)).square().mean().backward()
    without = {name for name, p in model.named_parameters() if p.grad is None}
    assert without == {"model.layers.1.mlp.gate.expert_bias"}
