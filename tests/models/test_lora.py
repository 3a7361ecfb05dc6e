"""Adapters: nothing at first, alone in training, the reference when off, exact when merged."""

import importlib.util
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from igpo_lightning.errors import ConfigError
from igpo_lightning.models import load_backbone, quantization, save_export
from igpo_lightning.models.lora import (
    adapters_off,
    add_lora,
    build_reference,
    is_lora,
    merged_state,
    reference_policy,
)
from igpo_lightning.models.tokenizer import train_tokenizer
from igpo_lightning.settings import LoraConfig

close = torch.testing.assert_close
NAMES = ["dream", "illada", "llada", "llada2", "sdar", "sdar_moe", "tiny"]
SETTINGS = LoraConfig(rank=4, alpha=8.0)


def trained(model, settings: LoraConfig = SETTINGS):
    """The model with adapters that do something."""
    add_lora(model, settings, seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.3, generator=generator)
    return model


@pytest.mark.parametrize("name", NAMES)
def test_new_adapters_change_nothing_and_are_all_that_trains(native, tokens, name: str) -> None:
    plain, model = native(name), native(name)
    add_lora(model, SETTINGS, seed=0)
    ids = tokens(2, 6)
    close(model(ids), plain(ids), atol=0, rtol=0)
    assert is_lora(model)
    assert not is_lora(plain)
    model(ids).square().mean().backward()
    for parameter_name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == ("lora_" in parameter_name), parameter_name


@pytest.mark.parametrize("name", NAMES)
def test_every_linear_layer_of_every_block_is_adapted_and_no_other(native, name: str) -> None:
    """But for routed experts, which are many and narrow."""
    model = native(name)
    linear = [
        path
        for path, part in model.named_modules()
        if isinstance(part, torch.nn.Linear) and part is not model.head and ".experts." not in path
    ]
    add_lora(model, SETTINGS, seed=0)
    adapted = {n.split(".lora_A")[0] for n, _ in model.named_parameters() if ".lora_A" in n}
    assert adapted == set(linear)
    # A rank r adapter of a layer with D in and O out has r (D + O) parameters.
    count = sum(p.numel() for n, p in model.named_parameters() if "lora_" in n)
    sizes = [model.get_submodule(path) for path in linear]
    assert count == sum(4 * (layer.in_features + layer.out_features) for layer in sizes)


def test_chosen_targets_are_adapted_alone_and_unknown_ones_named(native) -> None:
    model = native("llada")
    add_lora(model, LoraConfig(rank=4, alpha=8.0, targets=("q_proj", "down_proj")), seed=0)
    adapted = {n.split(".lora_A")[0].split(".")[-1] for n, _ in model.named_parameters()}
    assert {"q_proj", "down_proj"} <= adapted
    assert not any("k_proj.lora" in n or "head.lora" in n for n in model.state_dict())
    with pytest.raises(ConfigError, match=r"targets=\['c_attn'\].*have q_proj, k_proj"):
        add_lora(native("llada"), LoraConfig(rank=4, alpha=8.0, targets=("c_attn",)), seed=0)


@pytest.mark.parametrize("name", NAMES)
def test_with_adapters_off_it_is_the_model_it_was(native, tokens, name: str) -> None:
    plain, model, ids = native(name), trained(native(name)), tokens(2, 6)
    assert (model(ids) - plain(ids)).abs().max() > 1e-3
    with adapters_off(model):
        close(model(ids), plain(ids), atol=0, rtol=0)
    assert (model(ids) - plain(ids)).abs().max() > 1e-3
    model(ids).square().mean().backward()
    assert all(p.grad is not None for n, p in model.named_parameters() if "lora_" in n)


def test_adapters_come_back_after_an_error(native, tokens) -> None:
    model, ids = trained(native("tiny")), tokens(1, 4)
    expected = model(ids)
    with pytest.raises(RuntimeError, match="in between"), adapters_off(model):
        raise RuntimeError("in between")
    close(model(ids), expected)


def test_the_reference_is_a_copy_or_the_same_weights(native, tokens) -> None:
    """All weights trained: a frozen copy. Adapters: no copy, the model itself with them off."""
    full, adapted, ids = native("tiny"), trained(native("tiny")), tokens(1, 5)
    copy = build_reference(full)
    assert copy is not None
    assert build_reference(adapted) is None
    with torch.no_grad():
        full.embed.weight.add_(1.0)
        before = native("tiny")(ids)
        with reference_policy(full, copy) as policy:
            assert not any(p.requires_grad for p in policy.parameters())
            close(policy(ids), before)
        with reference_policy(adapted, None) as policy:
            assert policy is adapted
            close(policy(ids), before)


def test_adapters_follow_from_the_seed_and_are_float32(native) -> None:
    models = [native("tiny").to(torch.bfloat16) for _ in range(3)]
    torch.manual_seed(3)
    state = torch.get_rng_state()
    for model, seed in zip(models, (0, 0, 1), strict=True):
        add_lora(model, SETTINGS, seed=seed)
    assert torch.equal(torch.get_rng_state(), state)
    first, again, other = [m.layers[0].qkv.lora_A["default"].weight for m in models]
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.dtype == torch.float32
    assert models[0].embed.weight.dtype == torch.bfloat16


@settings(max_examples=15, deadline=None)
@given(
    st.sampled_from(NAMES), st.integers(1, 5), st.floats(0.5, 20.0), st.sampled_from([False, True])
)
def test_merged_weights_compute_what_adapters_compute(
    native, tokens, name: str, rank: int, alpha: float, some: bool
) -> None:
    """W + alpha / r * B A in place of W; the model itself is left as it was."""
    targets = native(name).linear_names[:2] if some else ()
    model = trained(native(name), LoraConfig(rank=rank, alpha=alpha, targets=targets))
    names = set(model.state_dict())
    merged = native(name)
    state = merged_state(model, model.state_dict())
    merged.load_state_dict({name: tensor.make() for name, tensor in state.items()})
    with torch.no_grad():
        close(merged(tokens(2, 5)), model(tokens(2, 5)), atol=1e-4, rtol=1e-3)
    assert set(model.state_dict()) == names


def test_an_export_holds_the_merged_weights_under_original_names(native, tokens, tmp_path) -> None:
    model = trained(native("llada"))
    save_export(model, train_tokenizer(["abc"], vocab_size=270), tmp_path)
    again = load_backbone(str(tmp_path))
    assert set(again.state_dict()) == set(native("llada").state_dict())
    with torch.no_grad():
        close(again(tokens(2, 5)), model(tokens(2, 5)), atol=1e-4, rtol=1e-3)


def test_gpt2_layers_with_transposed_weights_merge_too(tokens, tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    sizes = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32, "vocab_size": 300}
    GPT2LMHeadModel(GPT2Config(**sizes, initializer_range=0.3)).save_pretrained(tmp_path)
    overrides = {"mask_token_id": 4, "eos_token_id": 3}
    model = trained(load_backbone(str(tmp_path), token_overrides=overrides))
    tokenizer = train_tokenizer(["abc"], vocab_size=270)
    save_export(model, tokenizer, tmp_path / "export")
    again = load_backbone(str(tmp_path / "export"), token_overrides=overrides)
    with torch.no_grad():
        close(again(tokens(2, 5)), model(tokens(2, 5)), atol=1e-4, rtol=1e-3)


def test_without_bitsandbytes_quantization_says_what_is_missing(
    native, tmp_path: Path, monkeypatch
) -> None:
    save_export(native("tiny"), train_tokenizer(["abc"], vocab_size=270), tmp_path)
    find = importlib.util.find_spec
    monkeypatch.setattr(
        quantization.importlib.util,
        "find_spec",
        lambda name, *rest: None if name == "bitsandbytes" else find(name, *rest),
    )
    with pytest.raises(ConfigError, match=r"model\.quantization=4bit needs bitsandbytes"):
        load_backbone(str(tmp_path), quantization="4bit")


@pytest.mark.parametrize("kind", ["8bit", "4bit"])
def test_quantized_weights_are_as_large_as_the_plan_says(kind: str) -> None:
    bitsandbytes = pytest.importorskip("bitsandbytes").nn
    weight = torch.nn.Parameter(torch.randn(96, 320), requires_grad=False)
    if kind == "8bit":
        kept = bitsandbytes.Int8Params(weight.data, requires_grad=False, has_fp16_weights=False)
        kept = kept.to("cpu")
        parts = [kept.data, kept.SCB]
    else:
        kept = bitsandbytes.Params4bit(weight.data, requires_grad=False, quant_type="nf4").to("cpu")
        parts = [kept.data, kept.quant_state.absmax, kept.quant_state.state2.absmax]
    held = sum(part.numel() * part.element_size() for part in parts)
    assert quantization.quantized_bytes(weight, kind) == held


# 4-bit NF4 keeps 16 levels of a block's largest weight, 8-bit 255 of a row's: the logits' error,
# relative to their size, of random weights through two blocks.
@pytest.mark.parametrize(("kind", "error"), [("8bit", 0.05), ("4bit", 0.5)])
def test_quantized_weights_stay_near_and_train_adapters(
    native, tokens, tmp_path: Path, kind: str, error: float
) -> None:
    pytest.importorskip("bitsandbytes")
    sizes = {"d_model": 64, "n_heads": 4, "n_kv_heads": 2, "mlp_hidden_size": 128, "init_std": 0.1}
    exact, ids = native("llada", **sizes), tokens(2, 6)
    tokenizer = train_tokenizer(["abc"], vocab_size=270)
    save_export(exact, tokenizer, tmp_path / "exact")
    model = load_backbone(str(tmp_path / "exact"), quantization=kind)
    with torch.no_grad():
        start = model(ids)
        assert (start - exact(ids)).norm() < error * exact(ids).norm()
        assert (start - exact(ids)).abs().max() > 0
    trained(model)
    model(ids).square().mean().backward()
    graded = [n for n, p in model.named_parameters() if p.grad is not None]
    assert graded
    assert all("lora_" in n for n in graded)
    with adapters_off(model), torch.no_grad():
        close(model(ids), start, atol=1e-5, rtol=1e-4)
    # Exported in full, it needs bitsandbytes no more.
    save_export(model, tokenizer, tmp_path / "export")
    again = load_backbone(str(tmp_path / "export"))
    with torch.no_grad():
        # bitsandbytes rounds the activations of a layer, too: to bfloat16 or to 8 bits.
        assert (again(ids) - model(ids)).norm() < 0.05 * model(ids).norm()
