"""The training stream: every example once an epoch, parts in their shares, and nothing random."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from igpo_lightning.data.mixtures import BLOCK, Part, block_shares, mixture_index, stream_index


@settings(max_examples=30, deadline=None)
@given(count=st.integers(1, 60), seed=st.integers(0, 5), epoch=st.integers(0, 3))
def test_an_epoch_holds_every_example_once(count: int, seed: int, epoch: int) -> None:
    places = range(epoch * count, (epoch + 1) * count)
    assert sorted(stream_index(p, count, seed) for p in places) == list(range(count))


def test_epochs_and_seeds_differ() -> None:
    def order(epoch: int, seed: int) -> list[int]:
        return [stream_index(p, 50, seed) for p in range(50 * epoch, 50 * epoch + 50)]

    assert order(0, 0) != order(1, 0)
    assert order(0, 0) != order(0, 1)
    assert order(0, 0) == order(0, 0)


def test_shares_by_hand() -> None:
    # 1 : 2 : 4 of 1000 is 142.86, 285.71, 571.43; the two missing ones go to .86 and .71.
    assert block_shares([1, 2, 4]) == (143, 286, 571)
    # 1e-6 of 1000 is lifted to 1, and the largest part pays for it.
    assert block_shares([1e-6, 1, 3]) == (1, 250, 749)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=6))
def test_shares_fill_the_block(weights: list[float]) -> None:
    shares = block_shares(weights)
    assert sum(shares) == BLOCK
    assert min(shares) >= 1
    for share, weight in zip(shares, weights, strict=True):
        lifted = sum(BLOCK * w / sum(weights) < 1 for w in weights)
        assert abs(share - BLOCK * weight / sum(weights)) <= 1 + lifted


def test_every_block_holds_the_shares_and_every_part_its_epochs() -> None:
    parts = [Part(7, 1.0), Part(100, 3.0)]  # shares 250 and 750
    drawn = [mixture_index(p, parts, seed=3) for p in range(2 * BLOCK)]
    for block in (drawn[:BLOCK], drawn[BLOCK:]):
        assert Counter(part for part, _ in block) == {0: 250, 1: 750}
    for part, count in ((0, 7), (1, 100)):
        own = [index for p, index in drawn if p == part]
        for start in range(0, len(own) - count, count):
            assert sorted(own[start : start + count]) == list(range(count))


def test_one_part_is_the_plain_stream() -> None:
    for position in range(120):
        assert mixture_index(position, [Part(50, 2.0)], 1) == (0, stream_index(position, 50, 1))
