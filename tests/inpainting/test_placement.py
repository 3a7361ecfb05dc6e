"""Where chunks stand, by hand."""

from igpo_lightning.inpainting.placement import (
    compressed_positions,
    own_positions,
    stretched_positions,
)


def test_own_positions():
    assert own_positions([(0, 5), (12, 20)]) == [0, 12]


def test_compressed_gaps_shrink_by_one_factor():
    """Given 4 + 4 of 40 tokens, completion 24: 16 free places for 32 tokens, a factor of 1/2.

    The first chunk has 8 tokens before it: place 4. The second has 8 + 20 before it: 14 places and
    the first chunk's 4, place 18; it ends at 22 and 2 of the last 4 tokens' places follow.
    """
    assert compressed_positions([(8, 12), (32, 36)], 40, 24) == [4, 18]


def test_compressed_chunks_that_fill_the_completion_leave_no_gaps():
    assert compressed_positions([(3, 8), (20, 25)], 50, 10) == [0, 5]


def test_gaps_are_stretched_up_to_the_limit():
    """Given 10 of 20 tokens, completion 100, tail 30: (100 - 30 - 10) / 10 = 6, at most 1.5.

    Gaps 4 and 6 become 6 and 9: places 6 and 6 + 5 + 9 = 20.
    """
    assert stretched_positions([(4, 9), (15, 20)], 20, 100, 1.5, 100, 30) == [6, 20]


def test_gaps_are_never_shrunk():
    """Given 10 of 40 tokens in 45 - 30 places: the factor would be 5 / 30; it stays 1."""
    assert stretched_positions([(10, 15), (35, 40)], 40, 45, 1.5, 100, 30) == [10, 35]


def test_the_factor_fills_the_room_before_the_tail():
    """Given 10 of 30 tokens, completion 64, tail 30: (64 - 30 - 10) / 20 = 1.2."""
    assert stretched_positions([(10, 15), (25, 30)], 30, 64, 1.5, 100, 30) == [12, 29]


def test_a_gap_is_cut_to_its_limit():
    """A gap of 90 stretched by 1.5 is 135, cut to 100."""
    assert stretched_positions([(90, 95)], 95, 400, 1.5, 100, 30) == [100]
