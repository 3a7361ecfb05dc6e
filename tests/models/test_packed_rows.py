"""Several sequences in one row: each has the logits that it has in a row of its own."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from igpo_lightning.models import KeyValueCache
from tests.small_backbones import BLOCK_CAUSAL, FULL

NAMES = [*FULL, *BLOCK_CAUSAL]
close = torch.testing.assert_close


def packed(tokens, lengths: list[int], padding: int) -> tuple[torch.Tensor, torch.Tensor, list]:
    """Ids and sequence numbers [1, L] of sequences in one row, and the sequences [1, n]."""
    rows = [tokens(1, length, seed=i) for i, length in enumerate(lengths)]
    numbers = [torch.full((1, length), i + 1) for i, length in enumerate(lengths)]
    ids = torch.cat([*rows, torch.full((1, padding), 2)], dim=1)
    return ids, torch.cat([*numbers, torch.zeros(1, padding, dtype=torch.long)], dim=1), rows


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(NAMES),
    st.lists(st.integers(1, 6), min_size=1, max_size=4),
    st.integers(0, 3),
)
def test_a_sequence_does_not_know_what_shares_its_row(models, tokens, name, lengths, pad) -> None:
    model = models[name]
    ids, numbers, rows = packed(tokens, lengths, pad)
    with torch.no_grad():
        logits = model(ids, numbers)[0]
        for i, row in enumerate(rows):
            close(logits[numbers[0] == i + 1], model(row)[0], atol=1e-5, rtol=1e-4)
    assert bool(torch.isfinite(logits).all())  # at padding, too


@pytest.mark.parametrize("name", FULL)
def test_windows_and_caches_know_sequences_too(models, tokens, name) -> None:
    model = models[name]
    ids, numbers, _ = packed(tokens, [4, 5, 3], 2)
    with torch.no_grad():
        whole = model.encode(ids, numbers)
        cache = KeyValueCache()
        model.encode(ids, numbers, cache=cache)
        for first, stop in ((0, 4), (3, 8), (6, 14)):
            window = (first, stop)
            close(model.encode(ids, numbers, window=window), whole[:, first:stop])
            close(model.encode(ids, numbers, window=window, cache=cache), whole[:, first:stop])


@pytest.mark.parametrize("name", NAMES)
def test_ones_and_zeros_are_a_mask_of_one_sequence(models, tokens, name) -> None:
    model, ids = models[name], tokens(2, 7)
    real = torch.tensor([[0, 0, 1, 1, 1, 1, 1], [1] * 7])
    with torch.no_grad():
        logits, expected = model(ids, real), model(ids, real.bool())
    close(logits[real.bool()], expected[real.bool()], atol=1e-5, rtol=1e-4)
