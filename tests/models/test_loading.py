"""Which model is built from which files, and what a mistake says."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from igpo_lightning.errors import ConfigError
from igpo_lightning.models import load_backbone, save_export
from igpo_lightning.models.loading import bundled_config
from igpo_lightning.models.special_tokens import TokenIds, report_once, token_ids
from igpo_lightning.models.tokenizer import train_tokenizer


def folder_of(tmp_path: Path, **config: Any) -> str:
    (tmp_path / "config.json").write_text(json.dumps(config))
    return str(tmp_path)


def test_an_unknown_type_lists_what_is_supported(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        load_backbone(folder_of(tmp_path, model_type="mamba_xl"))
    for name in ("mamba_xl", "llada", "Dream", "igpo_tiny", "qwen3", "a2d-qwen3", "bert"):
        assert name in str(error.value)


def test_remote_code_is_never_run_unasked(tmp_path: Path) -> None:
    """A checkpoint's code would leave a file behind; none appears, and the error says how to."""
    (tmp_path / "modeling_new.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    path = folder_of(
        tmp_path,
        model_type="new_dllm",
        auto_map={
            "AutoConfig": "modeling_new.NewConfig",
            "AutoModelForMaskedLM": "modeling_new.New",
        },
    )
    with pytest.raises(ConfigError, match=r"model\.trust_remote_code=true"):
        load_backbone(path, random_init=True, token_overrides={"mask_token_id": 0})
    assert not (tmp_path / "ran").exists()


REMOTE = """
from transformers import BertConfig, BertForMaskedLM
class NewConfig(BertConfig):
    model_type = "new_dllm"
class New(BertForMaskedLM):
    config_class = NewConfig
"""


def test_remote_code_runs_when_asked_for(tmp_path: Path, tokens) -> None:
    (tmp_path / "modeling_new.py").write_text(REMOTE)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    path = folder_of(
        tmp_path,
        model_type="new_dllm",
        auto_map={
            "AutoConfig": "modeling_new.NewConfig",
            "AutoModelForMaskedLM": "modeling_new.New",
        },
        vocab_size=40,
        intermediate_size=24,
        mask_token_id=3,
        eos_token_id=1,
        **sizes,
    )
    model = load_backbone(path, random_init=True, trust_remote_code=True)
    assert model(tokens(2, 5)).shape == (2, 5, 40)


def test_a_folder_without_config_and_an_unreachable_id_say_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"holds no config\.json"):
        load_backbone(str(tmp_path))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ConfigError, match="is no JSON"):
        load_backbone(str(tmp_path))
    with pytest.raises(ConfigError, match=r"model\.path=no/such/folder"):
        load_backbone("no/such/folder")


def test_switches_that_no_released_model_has_are_refused(native, tmp_path: Path) -> None:
    llada = native("llada").raw_config
    with pytest.raises(ConfigError, match=r"alibi=True; supported: False"):
        load_backbone(folder_of(tmp_path, **llada | {"alibi": True}), random_init=True)
    dream = native("dream").raw_config
    with pytest.raises(ConfigError, match=r"rope_scaling=\{'factor': 2\}; supported: None"):
        load_backbone(folder_of(tmp_path, **dream | {"rope_scaling": {"factor": 2}}))
    without = {key: value for key, value in llada.items() if key != "n_layers"}
    with pytest.raises(ConfigError, match="has no n_layers"):
        load_backbone(folder_of(tmp_path, **without), random_init=True)


def test_random_weights_follow_from_the_seed_alone(native, tmp_path: Path) -> None:
    path = folder_of(tmp_path, **native("llada").raw_config)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    models = [load_backbone(path, random_init=True, seed=seed) for seed in (0, 0, 1)]
    assert torch.equal(torch.get_rng_state(), state)
    first, again, other = [model.embedding.weight for model in models]
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    # init_std = 0.3 over 40 * 16 draws: the sample's deviation is within 4 of its own,
    # 0.3 / sqrt(2 * 640) = 0.0084.
    assert abs(first.std().item() - 0.3) < 4 * 0.0084
    assert models[0].final_norm.weight.eq(1).all()


def test_a_model_on_the_meta_device_holds_no_memory() -> None:
    model = load_backbone("none", device="meta", random_init=True, architecture="llada_8b")
    assert {p.device.type for p in model.parameters()} == {"meta"}
    assert (model.mask_token_id, model.eos_token_id) == (126336, 126081)


def test_an_unknown_architecture_lists_the_bundled_ones() -> None:
    with pytest.raises(ConfigError, match=r"there is dream_7b, .*llada_8b, sdar_4b"):
        bundled_config("llada_9b")


def test_what_no_public_text_states_is_said_to_be_assumed(caplog) -> None:
    report_once.cache_clear()
    with caplog.at_level(logging.WARNING):
        raw = bundled_config("illada_8b")
        bundled_config("illada_8b")
    assert "assumed" not in raw
    said = [r.getMessage() for r in caplog.records]
    assert len(said) == 1
    for key in ("rope_theta", "rms_norm_eps"):
        assert f"{key}={raw[key]}" in said[0]


def test_special_tokens_come_from_the_first_source_that_knows() -> None:
    override = {"mask_token_id": 7, "eos_token_id": None}
    config = {"mask_token_id": 8, "eos_token_id": [2, 3], "pad_token_id": None}
    tokenizer = {"mask_token_id": 9, "eos_token_id": 4, "pad_token_id": None}
    assert token_ids(
        "m", {"settings": override, "config": config, "tokenizer": tokenizer}
    ) == TokenIds(mask=7, eos=2, pad=2)


def test_a_missing_mask_token_says_what_to_set() -> None:
    with pytest.raises(ConfigError, match=r"model\.mask_token_id or model\.mask_token"):
        token_ids("gpt2", {"config.json": {"eos_token_id": 1}})
    with pytest.raises(ConfigError, match=r"no eos token.*model\.eos_token_id"):
        token_ids("gpt2", {"config.json": {"mask_token_id": 1}})


def test_overrides_reach_the_model_and_must_fit_it(native, tmp_path: Path) -> None:
    path = folder_of(tmp_path, **native("llada").raw_config)
    overrides = {"mask_token_id": 39, "pad_token_id": 6, "eos_token_id": None}
    model = load_backbone(path, random_init=True, token_overrides=overrides)
    assert (model.mask_token_id, model.pad_token_id, model.eos_token_id) == (39, 6, 1)
    with pytest.raises(ConfigError, match=r"model\.mask_token_id=40: .* has 40 tokens"):
        load_backbone(path, random_init=True, token_overrides={"mask_token_id": 40})


def test_a_named_mask_token_is_looked_up_in_the_tokenizer(native, tmp_path: Path) -> None:
    tokenizer = train_tokenizer(["abc"], vocab_size=300)
    save_export(native("tiny", vocab_size=300), tokenizer, tmp_path)
    model = load_backbone(str(tmp_path), mask_token="<|pad|>")
    assert model.mask_token_id == tokenizer.convert_tokens_to_ids("<|pad|>") == 2


def test_compiled_blocks_compute_the_same(native, tokens) -> None:
    """Graph capture alone; what the compiler's backend makes of it is torch's to test."""
    model, ids = native("llada"), tokens(2, 6)
    expected = model(ids)
    for block in model.blocks:
        block.compile(backend="eager", fullgraph=True)
    names = set(model.state_dict())
    torch.testing.assert_close(model(ids), expected)
    assert set(model.state_dict()) == names
