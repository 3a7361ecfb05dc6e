"""Hints: chunks, choice, places, and that the answer is never among them."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from igpo_lightning.inpainting import choose_hints, chunk_trace, draw_ratio
from igpo_lightning.inpainting.hints import FREE
from igpo_lightning.settings import InpaintConfig


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def given_positions(hint_ids: torch.Tensor) -> list[int]:
    return (hint_ids != FREE).nonzero().flatten().tolist()


# ---- chunks -------------------------------------------------------------------------------------


@given(
    length=st.integers(0, 300),
    smallest=st.integers(1, 12),
    extra=st.integers(0, 8),
    seed=st.integers(0, 9),
)
@settings(max_examples=40, deadline=None)
def test_chunks_cover_the_trace_in_order_and_keep_their_sizes(length, smallest, extra, seed):
    chunks = chunk_trace(length, smallest, smallest + extra, rng(seed))
    assert [i for start, end in chunks for i in range(start, end)] == list(range(length))
    sizes = [end - start for start, end in chunks]
    assert all(smallest <= size <= smallest + extra for size in sizes[:-1])
    assert all(0 < size <= smallest + extra for size in sizes[-1:])


def test_both_ends_of_the_size_range_occur():
    sizes = {end - start for start, end in chunk_trace(2000, 5, 7, rng())[:-1]}
    assert sizes == {5, 6, 7}


def test_the_ratio_fills_its_range_and_a_fixed_one_stays():
    generator = rng()
    drawn = [draw_ratio(0.2, 0.6, generator) for _ in range(400)]
    assert 0.2 <= min(drawn) < 0.22
    assert 0.58 < max(drawn) <= 0.6
    assert draw_ratio(0.4, 0.4, generator) == 0.4


# ---- the paper's hints ------------------------------------------------------------------------


def test_floor_of_ratio_times_chunks_are_given_at_their_own_positions():
    """20 tokens in chunks of 5: N = 4, floor(0.6 * 4) = 2 chunks, 10 tokens."""
    trace = torch.arange(100, 120)
    hints = choose_hints(trace, 32, 0.6, 5, 5, rng())
    places = given_positions(hints)
    assert len(places) == 10
    assert [int(hints[i]) for i in places] == [100 + i for i in places]


@pytest.mark.parametrize(("ratio", "chunks"), [(0.0, 0), (0.29, 29), (0.3, 30), (1.0, 100)])
def test_the_floor_is_not_spoilt_by_binary_fractions(ratio, chunks):
    """0.29 * 100 is 28.999999999999996 in binary; floor(eta N) means 29."""
    hints = choose_hints(torch.arange(100), 100, ratio, 1, 1, rng())
    assert len(given_positions(hints)) == chunks


@given(
    length=st.integers(1, 90),
    start=st.integers(0, 90),
    width=st.integers(0, 30),
    ratio=st.floats(0, 1),
    placement=st.sampled_from(["own", "stretched"]),
    noise=st.sampled_from([0.0, 0.5]),
    seed=st.integers(0, 5),
)
@settings(max_examples=50, deadline=None)
def test_the_answer_is_never_in_a_hint_whatever_the_options(
    length, start, width, ratio, placement, noise, seed
):
    """Every token of the trace is distinct, so a hint shows which trace tokens it comes from."""
    trace = torch.arange(1000, 1000 + length)
    span = (min(start, length), min(start + width, length))
    options = InpaintConfig(placement=placement, noise=noise, tail=3)
    hints = choose_hints(trace, 60, ratio, 3, 6, rng(seed), span, options=options)
    shown = set(hints[hints != FREE].tolist())
    assert not shown & set(trace[span[0] : span[1]].tolist())
    assert shown <= set(trace.tolist())


@given(seed=st.integers(0, 20), ratio=st.floats(0, 1))
@settings(max_examples=25, deadline=None)
def test_own_positions_are_those_of_the_trace(seed, ratio):
    trace = torch.arange(500, 550)
    hints = choose_hints(trace, 40, ratio, 5, 10, rng(seed), (30, 34))
    assert all(int(hints[i]) == 500 + i for i in given_positions(hints))


def test_all_randomness_comes_from_the_generator():
    trace = torch.arange(60)
    torch.manual_seed(1)
    one = choose_hints(trace, 64, 0.5, 5, 10, rng(3))
    torch.manual_seed(2)
    assert torch.equal(one, choose_hints(trace, 64, 0.5, 5, 10, rng(3)))
    assert not torch.equal(one, choose_hints(trace, 64, 0.5, 5, 10, rng(4)))


# ---- other choices ----------------------------------------------------------------------------


def test_a_short_last_chunk_is_kept_or_dropped():
    """11 tokens in chunks of 5: 5, 5 and a last one of 1."""
    trace = torch.arange(11)
    assert len(given_positions(choose_hints(trace, 16, 1.0, 5, 5, rng()))) == 11
    dropping = InpaintConfig(drop_short_chunk=True)
    hints = choose_hints(trace, 16, 1.0, 5, 5, rng(), options=dropping)
    assert given_positions(hints) == list(range(10))


def test_a_ratio_of_zero_gives_nothing_with_the_released_options():
    released = InpaintConfig(placement="stretched", exclude_answer=False, drop_short_chunk=True)
    hints = choose_hints(torch.arange(50), 128, 0.0, 5, 10, rng(), (40, 50), options=released)
    assert given_positions(hints) == []


def test_the_answer_is_given_only_where_it_is_asked_for():
    trace = torch.arange(20)
    hidden = choose_hints(trace, 20, 1.0, 5, 5, rng(), (12, 20))
    assert given_positions(hidden) == list(range(12))
    shown = choose_hints(
        trace, 20, 1.0, 5, 5, rng(), (12, 20), options=InpaintConfig(exclude_answer=False)
    )
    assert given_positions(shown) == list(range(20))


def test_noise_replaces_its_share_by_other_tokens_of_the_trace():
    """Ten hint tokens, 30 % noise: exactly three differ, and all come from the trace."""
    trace = torch.arange(100, 110)
    clean = choose_hints(trace, 10, 1.0, 5, 5, rng())
    noisy = choose_hints(trace, 10, 1.0, 5, 5, rng(), options=InpaintConfig(noise=0.3))
    assert int((clean != noisy).sum()) == 3
    assert set(noisy.tolist()) <= set(trace.tolist())


def test_a_trace_of_one_token_has_nothing_to_corrupt_it_with():
    noisy = choose_hints([7, 7, 7], 4, 1.0, 3, 3, rng(), options=InpaintConfig(noise=1.0))
    assert noisy.tolist() == [7, 7, 7, FREE]


# ---- traces longer than the completion ----------------------------------------------------------


def test_long_traces_are_cut():
    cut = choose_hints(torch.arange(100), 20, 1.0, 5, 5, rng())
    assert cut.tolist() == list(range(20))


def test_an_unknown_placement_is_named():
    with pytest.raises(ValueError, match="sideways: use one of"):
        InpaintConfig(placement="sideways")
