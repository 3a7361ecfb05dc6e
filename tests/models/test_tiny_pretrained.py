"""The embedded model as a model of transformers: its Auto classes read and write it."""

import json
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel

from igpo_lightning.models import load_backbone, save_export
from igpo_lightning.models.lora import adapters_off, add_lora
from igpo_lightning.models.tiny import TinyBackbone, TinyConfig
from igpo_lightning.models.tokenizer import train_tokenizer
from igpo_lightning.settings import LoraConfig

SIZES = {
    "vocab_size": 300,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "initializer_range": 0.3,
}


def random_model(**changes: object) -> TinyBackbone:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return TinyBackbone(TinyConfig(**SIZES | changes)).eval()


def assert_same(model: torch.nn.Module, other: torch.nn.Module, ids: torch.Tensor) -> None:
    """Weights and logits, bit for bit."""
    expected = model.state_dict()
    assert other.state_dict().keys() == expected.keys()
    for name, tensor in other.state_dict().items():
        assert tensor.dtype == expected[name].dtype
        assert torch.equal(tensor, expected[name]), name
    mask = torch.ones_like(ids, dtype=torch.bool)
    mask[0, :2] = False
    assert torch.equal(model(ids, mask), other(ids, mask))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("tied", [True, False])
def test_auto_model_reads_exports_and_the_loader_reads_saved_models(
    tokens, tmp_path: Path, tied: bool, dtype: torch.dtype
) -> None:
    model, ids = random_model(tie_word_embeddings=tied).to(dtype), tokens(2, 6)
    save_export(model, train_tokenizer(["abc"], 300), tmp_path / "export")
    automatic = AutoModel.from_pretrained(tmp_path / "export")
    assert isinstance(automatic, TinyBackbone)
    assert_same(model, automatic, ids)
    automatic.save_pretrained(tmp_path / "saved", max_shard_size="4KB")
    loaded = load_backbone(str(tmp_path / "saved"), dtype=dtype)
    assert isinstance(loaded, PreTrainedModel)
    assert_same(model, loaded, ids)


def test_the_configuration_goes_through_auto_config(tmp_path: Path) -> None:
    config = TinyConfig(**SIZES, mask_token_id=7, rope_theta=500.0)
    assert isinstance(config, PreTrainedConfig)
    config.save_pretrained(tmp_path)
    read = AutoConfig.from_pretrained(tmp_path)
    assert isinstance(read, TinyConfig)
    assert (read.mask_token_id, read.rope_theta, read.hidden_size) == (7, 500.0, 16)
    assert read.to_diff_dict() == config.to_diff_dict()


def test_config_json_holds_the_type_and_every_size(tmp_path: Path) -> None:
    """Defaults too, so that a later default changes no saved model; no version of a library."""
    TinyConfig().save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text()) == {
        "model_type": "igpo_tiny",
        "vocab_size": 512,
        "hidden_size": 128,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "intermediate_size": 384,
        "rope_theta": 10000.0,
        "rms_norm_eps": 1e-5,
        "mask_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 2,
        "tie_word_embeddings": True,
        "initializer_range": 0.02,
    }


def test_parameters_keep_the_names_of_published_checkpoints() -> None:
    block = ("attention_norm", "qkv", "attention_out", "mlp_norm", "gate_up", "down")
    expected = {"embed.weight", "norm.weight"}
    expected |= {f"layers.{i}.{part}.weight" for i in range(2) for part in block}
    assert set(random_model().state_dict()) == expected


def test_other_entries_of_a_configuration_are_carried_along(tmp_path: Path) -> None:
    raw = {"model_type": "igpo_tiny", **SIZES, "trained_on": "arithmetic"}
    raw |= {"mask_token_id": 0, "eos_token_id": 1}
    (tmp_path / "config.json").write_text(json.dumps(raw))
    model = load_backbone(str(tmp_path), random_init=True)
    assert model.raw_config == raw
    model.save_pretrained(tmp_path / "saved")
    saved = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert saved["trained_on"] == "arithmetic"


def test_transformers_switches_recomputation_on(tokens) -> None:
    """A block's forward runs a second time in the backward pass; the gradient stays the same."""
    model, ids = random_model(), tokens(2, 6)
    model(ids).square().mean().backward()
    plain = [parameter.grad.clone() for parameter in model.parameters()]
    calls = []
    model.layers[0].register_forward_pre_hook(lambda *_: calls.append(1))
    model.activation_checkpointing_enable()
    model.zero_grad()
    model(ids).square().mean().backward()
    assert len(calls) == 2
    for parameter, gradient in zip(model.parameters(), plain, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def test_copies_and_adapters_leave_the_model_as_it_was(tokens) -> None:
    model, ids = random_model(), tokens(2, 6)
    copy = deepcopy(model)
    assert isinstance(copy, PreTrainedModel)
    assert_same(model, copy, ids)
    add_lora(model, LoraConfig(rank=2, alpha=4.0), seed=0)
    with adapters_off(model):
        assert torch.equal(model(ids), copy(ids))
