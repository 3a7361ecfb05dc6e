"""Logits, kept keys and training losses of the decoder families against the public code.

Every number, shape and case comes from the folder of reference values, whose README names the
tolerances.
"""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from igpo_lightning.diffusion.paired_inputs import paired_layout
from igpo_lightning.models import KeyValueCache
from igpo_lightning.models.backbone import Layout
from tests.golden_backbones import load_golden

pytestmark = pytest.mark.shared
TOLERANCE = 1e-4  # of logits, keys and values
LOSS_TOLERANCE = 1e-5  # relative

FOLDERS = ["illada", "sdar", "sdar_moe", "dreamreasoner", "fast_dllm_v2", "llada2"]


@pytest.fixture
def values(shared_golden: Path) -> Any:
    """`values(folder, file)`: the tensors of a file."""
    return lambda folder, file: load_file(
        shared_golden / "backbones" / folder / f"{file}.safetensors"
    )


@pytest.fixture
def load(shared_golden: Path) -> Any:
    """`load(folder, block="own")`: the checkpoint, at its own or another block size."""
    return partial(load_golden, shared_golden / "backbones")


def blocks_in(names: Any, prefix: str) -> Iterator[tuple[str, int | None]]:
    """Keys `PREFIXn` or `PREFIXfull`, with the block size that they are computed at."""
    for name in names:
        match = re.fullmatch(rf"{prefix}_(?:block(\d+)|(full))", name)
        if match:
            yield name, int(match[1]) if match[1] else None


def close(actual: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(actual, expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("folder", ["sdar", "sdar_moe", "dreamreasoner", "llada2"])
@torch.no_grad()
def test_logits_at_every_block_size(values, load, folder: str) -> None:
    expected = values(folder, "forward")
    cases = list(blocks_in(expected, "logits"))
    assert cases
    for name, block in cases:
        close(load(folder, block)(expected["input_ids"]), expected[name])


@torch.no_grad()
def test_fast_dllm_hides_its_shift(values, load) -> None:
    """Logits at i are the head's own at i - 1; position 0 has none before it and keeps its own."""
    expected = values("fast_dllm_v2", "forward")
    cases = list(blocks_in(expected, "logits_unshifted"))
    assert cases
    for name, block in cases:
        logits = load("fast_dllm_v2", block)(expected["input_ids"])
        close(logits[:, 1:], expected[name][:, :-1])
        close(logits[:, 0], expected[name][:, 0])
    for name, block in blocks_in(expected, "logits_aligned"):
        logits = load("fast_dllm_v2", block)(expected["input_ids"])
        close(logits[:, 1:], expected[name][:, 1:])


@torch.no_grad()
def test_illada_forward_padding_positions_and_masks(values, load) -> None:
    model, expected = load("illada"), values("illada", "forward")
    ids = expected["input_ids"]
    close(model(ids), expected["logits"])
    last = expected["logits_last4"].shape[1]
    length = ids.shape[1]
    window = model.encode(ids, window=(length - last, length))
    close(model.project(window), expected["logits_last4"])
    real = expected["attention_mask"].bool()
    assert not real.all()
    close(model(ids, real)[real], expected["logits_padded"][real])
    everything = torch.ones(1, length, length, dtype=torch.bool)
    moved = Layout(expected["position_ids"], everything)
    close(model.project(model.encode(ids, layout=moved)), expected["logits_position_ids"])
    masked = Layout(torch.arange(length)[None], expected["mask_3d"].bool())
    close(model.project(model.encode(ids, layout=masked)), expected["logits_mask_3d"])


@pytest.mark.parametrize("folder", FOLDERS)
@torch.no_grad()
def test_padding_changes_no_logit(values, load, folder: str) -> None:
    """Three more tokens on the left, which the mask hides: blocks begin at the first real token."""
    model, ids = load(folder), values(folder, "forward")["input_ids"]
    padded = F.pad(ids, (3, 0), value=model.pad_token_id)
    real = F.pad(torch.ones_like(ids, dtype=torch.bool), (3, 0), value=False)
    close(model(padded, real)[:, 3:], model(ids))


@torch.no_grad()
def test_sdar_keeps_the_keys_and_values_of_the_public_code(values, load) -> None:
    """The prefix in one pass, then a block of noise over it."""
    model, expected = load("sdar"), values("sdar", "forward")
    kept, block = expected["prefix_kv_row0"], expected["noisy_block"]
    prefix, width = kept.shape[3], block.shape[1]
    ids = expected["input_ids"].clone()
    ids[:, prefix : prefix + width] = block
    cache = KeyValueCache()
    model.encode(ids, window=(0, prefix), cache=cache)
    for (keys, values_), wanted in zip(cache.layers, kept, strict=True):
        close(keys[0, :, :prefix], wanted[0])
        close(values_[0, :, :prefix], wanted[1])
    window = (prefix, prefix + width)
    hidden = model.encode(ids, window=window, cache=cache)
    close(model.project(hidden), expected["logits_noisy_block"])


@torch.no_grad()
def test_fast_dllm_runs_a_block_over_the_cache(values, load) -> None:
    """Inside the block logits at i are the head's own at i - 1; the first keeps its own."""
    model, expected = load("fast_dllm_v2"), values("fast_dllm_v2", "forward")
    ids, own = expected["input_ids"], expected["block_logits_over_cache"]
    stop = ids.shape[1]
    start, cache = stop - own.shape[1], KeyValueCache()
    model.encode(ids, window=(0, start), cache=cache)
    logits = model.project(model.encode(ids, window=(start, stop), cache=cache))
    close(logits[:, 1:], own[:, :-1])
    close(logits[:, 0], own[:, 0])


@pytest.mark.parametrize("folder", FOLDERS)
@torch.no_grad()
def test_a_filled_cache_gives_the_same_logits(values, load, folder: str) -> None:
    """Prefix, then the rest over the cache, on the tokens of the full pass."""
    expected = values(folder, "forward")
    blocks = [block for _, block in blocks_in(expected, "logits(?:_unshifted)?") if block]
    model, ids = load(folder, min(blocks, default=None)), expected["input_ids"]
    start = ids.shape[1] // 2 // (model.block_size or 1) * (model.block_size or 1)
    assert start > 0
    cache = KeyValueCache()
    model.encode(ids, window=(0, start), cache=cache)
    logits = model.project(model.encode(ids, window=(start, ids.shape[1]), cache=cache))
    first = int(model.shifted)  # whose own state stands in the block before
    close(logits[:, first:], model(ids)[:, start + first :])


def masked_loss(logits: torch.Tensor, x_0: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Cross entropy at the targets, row major."""
    return F.cross_entropy(logits[target], x_0[target], reduction="none")


@pytest.mark.parametrize("folder", ["sdar", "llada2"])
@torch.no_grad()
def test_one_pass_over_noised_and_clean_tokens(values, load, folder: str) -> None:
    """The mask, the logits of both halves, and the loss."""
    expected = values(folder, "train")
    cases = list(blocks_in(expected, "x_t"))
    assert cases
    for name, block in cases:
        assert block is not None
        x_0, x_t = expected["x_0"], expected[name]
        layout = paired_layout(torch.ones_like(x_0), block)
        mask = expected[f"attention_mask_block{block}"].bool()
        assert torch.equal(layout.visible, mask.expand(len(x_0), -1, -1))
        model = load(folder, block)
        logits = model.project(model.encode(torch.cat((x_t, x_0), dim=1), layout=layout))
        noised, clean = logits.chunk(2, dim=1)
        close(noised, expected[f"logits_x_t_block{block}"])
        close(clean, expected[f"logits_x_0_block{block}"])
        target = expected[f"target_mask_block{block}"].bool()
        loss = masked_loss(noised, x_0, target)
        if f"p_mask_block{block}" in expected:
            loss = loss / expected[f"p_mask_block{block}"][target]
            torch.testing.assert_close(
                loss, expected[f"token_loss_block{block}"], rtol=LOSS_TOLERANCE, atol=0
            )
            mean = loss.sum() / expected[f"labels_block{block}"].ne(-100).sum()
        else:
            mean = loss.mean()
        torch.testing.assert_close(
            mean, expected[f"loss_block{block}"], rtol=LOSS_TOLERANCE, atol=0
        )


@torch.no_grad()
def test_packed_documents_are_trained_apart(values, load) -> None:
    """The reference lays out x_t(a) x_0(a) x_t(b) x_0(b); ours is x_t(a) x_t(b) x_0(a) x_0(b)."""
    expected = values("sdar", "train")
    model, x_t, positions = load("sdar"), expected["packed_x_t"], expected["packed_position_ids"]
    numbers = positions.eq(0).cumsum(dim=1)  # [1, L], from 1
    length = x_t.shape[1]
    order = torch.cat((numbers[0] * 2, numbers[0] * 2 + 1)).argsort(stable=True)
    both = torch.empty_like(expected["packed_concat_ids"])
    both[:, order] = expected["packed_concat_ids"]
    assert torch.equal(both[:, :length], x_t)
    layout = paired_layout(numbers, model.block_size)
    assert torch.equal(layout.positions[:, :length], positions)
    visible = layout.visible[0][order][:, order]
    assert torch.equal(visible, expected["packed_attention_mask"].bool())
    logits = model.project(model.encode(both, layout=layout))
    close(logits[:, order], expected["packed_logits_concat"])


@torch.no_grad()
def test_fast_dllm_trains_on_a_view_and_its_complement(values, load) -> None:
    model, expected = load("fast_dllm_v2"), values("fast_dllm_v2", "train")
    x_t, labels = expected["x_t"], expected["labels"]
    x_0 = expected["x_0"].expand_as(x_t)
    layout = paired_layout(torch.ones_like(x_t), model.block_size)
    assert torch.equal(layout.visible[0], expected["attention_mask"].bool())
    logits = model.project(model.encode(torch.cat((x_t, x_0), dim=1), layout=layout))
    noised = logits[:, : x_t.shape[1]]
    close(noised[:, 1:], expected["logits_unshifted_x_t"][:, :-1])
    # The public loss is a shifted one, without a target at position 0.
    scored = labels.ne(-100)
    scored[:, 0] = False
    loss = masked_loss(noised, labels, scored).mean()
    torch.testing.assert_close(loss, expected["loss"], rtol=LOSS_TOLERANCE, atol=0)


@torch.no_grad()
def test_llada2_routes_as_the_public_code(values, load) -> None:
    """The mixture of experts of a block alone."""
    expected = values("llada2", "forward")
    cases = {int(m[1]) for name in expected if (m := re.match(r"moe_layer(\d+)_", name))}
    assert cases
    for layer in cases:
        moe, prefix = load("llada2").blocks[layer].mlp, f"moe_layer{layer}_"
        x = expected[f"{prefix}input"]
        close(moe(x), expected[f"{prefix}output"])
        close(moe.gate.logits(x), expected[f"{prefix}router_logits"])
        chosen, weights = moe.gate(x.flatten(0, 1))
        same_set(chosen, expected[f"{prefix}topk_idx"].flatten(0, 1))
        ours = torch.zeros(len(chosen), moe.config.count).scatter(1, chosen, weights)
        wanted = expected[f"{prefix}topk_idx"].flatten(0, 1)
        close(ours.gather(1, wanted), expected[f"{prefix}topk_weight"].flatten(0, 1))


@torch.no_grad()
def test_llada2_routes_within_a_pass(values, load) -> None:
    """Router logits before the sigmoid and the chosen experts, at the block size of training."""
    _, block = next(blocks_in(values("llada2", "train"), "x_t"))
    expected = values("llada2", "forward")
    cases = {int(m[1]) for name in expected if (m := re.match(r"router_logits_layer(\d+)", name))}
    assert cases
    for layer in cases:
        model, seen = load("llada2", block), []
        gate = model.blocks[layer].mlp.gate
        hook = gate.register_forward_hook(
            lambda gate, args, out, seen=seen: seen.append((args, out))
        )
        model(expected["input_ids"])
        hook.remove()
        ((tokens,), (chosen, _)) = seen[0]
        close(gate.logits(tokens), expected[f"router_logits_layer{layer}"].flatten(0, 1))
        same_set(chosen, expected[f"topk_idx_layer{layer}"].flatten(0, 1))


def same_set(chosen: torch.Tensor, expected: torch.Tensor) -> None:
    """Experts [T, k], in any order."""
    assert torch.equal(chosen.sort(dim=1).values, expected.sort(dim=1).values)
