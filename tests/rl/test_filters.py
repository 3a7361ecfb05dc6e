"""Which tokens count."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from igpo_lightning.rl import entropy_filter
from igpo_lightning.rl.filters import batch_entropy_filter, filter_tokens, top_entropy
from igpo_lightning.settings import FilterConfig

bools = st.lists(st.booleans(), min_size=12, max_size=12)
# Few distinct values, so that ties occur.
entropies = st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0]), min_size=12, max_size=12)


def test_the_most_uncertain_hints_and_all_generated_tokens_count():
    """Five live hints, tau = 0.4: ceil(2.0) = 2, those of 0.9 and 0.8. The last token is dead."""
    entropy = torch.tensor([[0.1, 0.9, 0.2, 0.8, 0.3, 5.0, 9.0]])
    hints = torch.tensor([[True, True, True, True, True, False, True]])
    live = torch.tensor([[True, True, True, True, True, True, False]])
    kept = entropy_filter(entropy, hints, live, 0.4)
    assert kept.tolist() == [[False, True, False, True, False, True, False]]


@pytest.mark.parametrize(
    ("hints", "tau", "kept"),
    [(15, 0.2, 3), (15, 0.21, 4), (1, 0.2, 1), (3, 0.2, 1), (10, 0.3, 3), (7, 1.0, 7), (5, 0.0, 1)],
)
def test_ceil_of_tau_n_and_at_least_one(hints, tau, kept):
    """0.2 * 15 = 3 (3.0000000000000004 in binary) keeps 3; 0.21 * 15 = 3.15 keeps 4."""
    mask = torch.ones(1, hints, dtype=torch.bool)
    assert int(entropy_filter(torch.rand(1, hints), mask, mask, tau).sum()) == kept


@given(entropy=entropies, hints=bools, live=bools, tau=st.floats(0.01, 1))
@settings(max_examples=50, deadline=None)
def test_exactly_ceil_tau_n_hints_and_everything_elsewhere(entropy, hints, live, tau):
    entropy, hint_mask, live_mask = (torch.tensor([row]) for row in (entropy, hints, live))
    kept = entropy_filter(entropy, hint_mask, live_mask, tau)
    candidates = hint_mask & live_mask
    number = int(candidates.sum())
    expected = max(1, math.ceil(tau * number - 1e-9)) if number else 0
    assert int((kept & hint_mask).sum()) == expected
    assert torch.equal(kept & ~hint_mask, live_mask & ~hint_mask)
    dropped = candidates & ~kept
    if expected and dropped.any():
        assert entropy[kept & hint_mask].min() >= entropy[dropped].max()


@given(entropy=entropies, hints=bools, live=bools)
@settings(max_examples=25, deadline=None)
def test_rows_do_not_change_each_other(entropy, hints, live):
    entropy, hint_mask, live_mask = (torch.tensor([row]) for row in (entropy, hints, live))
    alone = entropy_filter(entropy, hint_mask, live_mask, 0.3)
    other = torch.rand(1, 12), torch.rand(1, 12) > 0.5, torch.rand(1, 12) > 0.5
    both = entropy_filter(
        torch.cat((other[0], entropy)),
        torch.cat((other[1], hint_mask)),
        torch.cat((other[2], live_mask)),
        0.3,
    )
    assert torch.equal(both[1:], alone)


def test_equal_entropies_go_to_the_earlier_position():
    every = torch.ones(1, 4, dtype=torch.bool)
    assert top_entropy(torch.ones(1, 4), every, 0.5).tolist() == [[True, True, False, False]]


ENTROPY = torch.tensor([[0.1, 0.9, 0.6, 2.0]])
HINTS = torch.tensor([[True, True, True, False]])
LIVE = torch.ones(1, 4, dtype=torch.bool)


@pytest.mark.parametrize(
    ("settings_", "expected"),
    [
        (FilterConfig("none"), [True, True, True, True]),
        (FilterConfig("entropy", keep_fraction=0.2), [False, True, False, True]),
        # The median of 0.1, 0.6, 0.9 and 2.0 is 0.75: 0.9 and 2.0 are above.
        (FilterConfig("entropy_all", keep_fraction=0.5), [False, True, False, True]),
    ],
)
def test_each_kind_by_hand(settings_, expected):
    assert filter_tokens(settings_, ENTROPY, HINTS, LIVE).tolist() == [expected]


def test_the_top_of_the_batch_compares_rows_with_each_other():
    """Half of six live entropies, 0.1 to 0.6: the median is 0.35, and one row keeps nothing."""
    entropy = torch.tensor([[0.1, 0.2, 0.3, 9.0], [0.4, 0.5, 0.6, 9.0]])
    live = torch.tensor([[True, True, True, False]] * 2)
    kept = batch_entropy_filter(entropy, live, 0.5)
    assert kept.tolist() == [[False] * 4, [True, True, True, False]]
    # Another rank's tokens are all more uncertain: the median of twelve is 0.65.
    everywhere = torch.cat((entropy[live], torch.full((6,), 0.7)))
    assert not bool(batch_entropy_filter(entropy, live, 0.5, everywhere).any())
    nothing = torch.zeros_like(live)
    assert not bool(batch_entropy_filter(entropy, nothing, 0.5).any())


@pytest.mark.parametrize("kind", ["none", "entropy", "entropy_all"])
def test_tokens_after_the_end_never_count(kind):
    live = torch.tensor([[True, False, True, False]])
    kept = filter_tokens(FilterConfig(kind, 1.0), ENTROPY, HINTS, live)
    assert not bool((kept & ~live).any())
