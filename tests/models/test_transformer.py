"""Padding, windows and caches of the native backbones."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from igpo_lightning.models import Backbone, KeyValueCache
from igpo_lightning.models.attention import rotary_angles, rotate
from igpo_lightning.models.transformer import align_shifted
from tests.small_backbones import BLOCK_CAUSAL, FULL

NAMES = FULL + BLOCK_CAUSAL
close = torch.testing.assert_close


@pytest.mark.parametrize("name", NAMES)
def test_the_interface_holds(models, tokens, name) -> None:
    model, ids = models[name], tokens(2, 5)
    assert isinstance(model, Backbone)
    assert model(ids).shape == (2, 5, model.vocab_size)
    close(model.project(model.encode(ids)), model(ids))
    close(model.encode(ids, window=(1, 4)), model.encode(ids)[:, 1:4])


@pytest.mark.parametrize("name", FULL)
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("cached", [False, True])
def test_chosen_positions_are_those_of_the_window(models, tokens, name, padded, cached) -> None:
    """Each row its own; row 1 has real tokens from position 2 on, and is asked for that one."""
    model, ids = models[name], tokens(2, 9)
    mask = torch.arange(9) >= torch.tensor([[0], [2]]) if padded else None
    positions = torch.tensor([[3, 6, 5], [2, 4, 6]])
    caches = [KeyValueCache(), KeyValueCache()] if cached else [None, None]
    with torch.no_grad():
        for cache in filter(None, caches):
            model.encode(ids, mask, cache=cache)
        window = model.encode(ids, mask, window=(2, 7), cache=caches[0])
        chosen = model.encode(ids, mask, window=(2, 7), cache=caches[1], positions=positions)
    close(chosen, window[torch.arange(2)[:, None], positions - 2])
    if cached:
        for kept, also in zip(caches[0].layers, caches[1].layers, strict=True):
            close(also, kept)


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(NAMES),
    st.lists(st.integers(1, 7), min_size=1, max_size=4),
    st.integers(0, 3),
    st.randoms(use_true_random=False),
)
def test_a_row_depends_neither_on_padding_nor_on_other_rows(
    models, tokens, name, lengths, more, random
) -> None:
    """Each row alone and unpadded equals the same row padded left among others, in any order."""
    model, width = models[name], max(lengths) + more
    order = list(range(len(lengths)))
    random.shuffle(order)
    ids = torch.full((len(lengths), width), 2)
    mask = torch.zeros_like(ids, dtype=torch.bool)
    rows = [tokens(1, length, seed=i)[0] for i, length in enumerate(lengths)]
    for place, row in enumerate(order):
        ids[place, width - lengths[row] :] = rows[row]
        mask[place, width - lengths[row] :] = True
    with torch.no_grad():
        logits = model(ids, mask)
        for place, row in enumerate(order):
            close(logits[place, mask[place]], model(rows[row][None])[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", FULL)
def test_every_position_sees_every_other(models, tokens, name) -> None:
    """Full attention: the last token moves the logits of the first, and the other way round."""
    model, ids = models[name], tokens(1, 6)
    for changed, watched in ((5, 1), (0, 5)):
        other = ids.clone()
        other[0, changed] = (ids[0, changed] + 1) % model.vocab_size
        with torch.no_grad():
            assert (model(other)[0, watched] - model(ids)[0, watched]).abs().max() > 1e-4


@pytest.mark.parametrize("padding", [0, 2])
@pytest.mark.parametrize("name", BLOCK_CAUSAL)
@torch.no_grad()
def test_a_block_sees_itself_and_what_is_before(models, tokens, name, padding) -> None:
    """Blocks of 3 from the first real token: a change of token 4 reaches the logits from block 1;
    shifted ones, which are read one place before, from token 4 on."""
    model, ids = models[name], tokens(1, 9 + padding)
    real = torch.arange(9 + padding)[None] >= padding
    other = ids.clone()
    other[0, padding + 4] = (ids[0, padding + 4] + 1) % model.vocab_size
    moved = (model(other, real) - model(ids, real)).abs().amax(dim=2)[0, padding:] > 1e-5
    first = 4 if model.shifted else 3
    assert moved.tolist() == [False] * first + [True] * (9 - first)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("name", BLOCK_CAUSAL)
@torch.no_grad()
def test_blocks_over_a_cache_are_the_full_pass(models, tokens, name, padded) -> None:
    """Block after block over what was kept: exactly the full pass, and nothing else is run. Left
    padding of a whole block keeps the rows' blocks in line."""
    model, ids, cache = models[name], tokens(2, 9), KeyValueCache()
    mask = torch.arange(9) >= torch.tensor([[0], [3]]) if padded else None
    full = model.encode(ids, mask)
    for start in (0, 3, 6):
        part = model.encode(ids, mask, window=(start, start + 3), cache=cache)
        # A shifted block's first token is known: its state stands in the block before.
        first = int(model.shifted and start > 0)
        rows = slice(1) if padded and start == 0 else slice(2)
        expected = full[rows, start + first : start + 3]
        close(part[rows, first:], expected, atol=1e-5, rtol=1e-4)
        assert all(k[:, :, start + 3 :].eq(0).all() for k, _ in cache.layers)


@torch.no_grad()
def test_the_state_behind_a_block_predicts_the_next_ones_first_token(models, tokens) -> None:
    """Shifted and block-causal: position 6, asked of the window [3, 6), is read from position 5."""
    model, ids, cache = models["fast_dllm_v2"], tokens(2, 9), KeyValueCache()
    model.encode(ids, window=(0, 3), cache=cache)
    behind = torch.full((2, 1), 6)
    state = model.encode(ids, window=(3, 6), cache=cache, positions=behind)
    close(state, model.encode(ids)[:, 6:7], atol=1e-5, rtol=1e-4)


def test_a_shifted_state_moves_right_and_the_first_real_one_stays() -> None:
    hidden = torch.tensor([[[1.0], [2.0], [3.0], [4.0]]])
    assert align_shifted(hidden, None).flatten().tolist() == [1, 1, 2, 3]
    # Two pads: the first real position (2) has nothing real before it and keeps its own state.
    mask = torch.tensor([[False, False, True, True]])
    assert align_shifted(hidden, mask)[0, 2:].flatten().tolist() == [3, 3]


def test_rotary_positions_turn_pairs_by_their_angle() -> None:
    """Two channels at position 1 turn by 1 radian: (1, 0) -> (cos 1, sin 1)."""
    cos, sin = rotary_angles(torch.tensor([[1]]), width=2, theta=10_000.0)
    turned = rotate(torch.tensor([[[[1.0, 0.0]]]]), cos, sin).flatten()
    close(turned, torch.tensor([0.5403023, 0.8414710]))


def padding_mask(padded: bool) -> torch.Tensor | None:
    if not padded:
        return None
    mask = torch.ones(2, 9, dtype=torch.bool)
    mask[0, :2] = False
    return mask


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("window", [(3, 6), (3, 9), (0, 4)])
@pytest.mark.parametrize("name", FULL)
@torch.no_grad()
def test_a_filled_cache_gives_the_same_window(models, tokens, name, window, padded) -> None:
    """On the canvas that filled it, a window on the cache equals that window of the full pass."""
    model, ids, mask = models[name], tokens(2, 9), padding_mask(padded)
    cache = KeyValueCache()
    full = model.encode(ids, mask, cache=cache)
    close(full, model.encode(ids, mask))
    assert len(cache.layers) == len(list(model.blocks))
    part = model.encode(ids, mask, window=window, cache=cache)
    close(part, full[:, slice(*window)], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", FULL)
@torch.no_grad()
def test_a_window_renews_its_own_keys_and_keeps_the_others(native, tokens, name) -> None:
    """In a one-block model keys depend on their own token alone, so a cached window over changed
    tokens is exactly the full pass; a token changed outside the window is not seen."""
    layers = "n_layers" if name == "llada" else "num_hidden_layers"
    model, ids = native(name, **{layers: 1}), tokens(2, 9)
    cache = KeyValueCache()
    model.encode(ids, cache=cache, window=(4, 6))
    changed = ids.clone()
    changed[:, 4:6] = (ids[:, 4:6] + 3) % model.vocab_size
    expected = model.encode(changed)[:, 4:6]
    close(model.encode(changed, window=(4, 6), cache=cache), expected, atol=1e-5, rtol=1e-4)
    outside = changed.clone()
    outside[:, 8] = (ids[:, 8] + 5) % model.vocab_size
    close(model.encode(outside, window=(4, 6), cache=cache), expected, atol=1e-5, rtol=1e-4)
    # The renewed keys stay: another window sees the changed tokens.
    other = model.encode(changed, window=(7, 9), cache=cache)
    close(other, model.encode(changed)[:, 7:9], atol=1e-5, rtol=1e-4)
    # A full pass on a filled cache renews all of it.
    close(model.encode(outside, cache=cache), model.encode(outside), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_gradient_checkpointing_changes_no_gradient(native, tokens, name) -> None:
    gradients = []
    for recompute in (False, True):
        model = native(name)
        model.gradient_checkpointing = recompute
        model(tokens(2, 6)).square().mean().backward()
        gradients.append([p.grad for p in model.parameters() if p.requires_grad])
    for plain, recomputed in zip(*gradients, strict=True):
        assert plain is not None
        close(recomputed, plain)
