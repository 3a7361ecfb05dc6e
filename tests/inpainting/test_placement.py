"""Where chunks stand, by hand."""

from igpo_lightning.inpainting.hints import stretched_positions


def test_gaps_are_stretched_up_to_the_limit():
    """A trace of 20 tokens, room 70: 70 / 20 = 3.5, at most 1.5.

    Gaps 4 and 6 become 6 and 9: places 6 and 6 + 5 + 9 = 20.
    """
    assert stretched_positions([(4, 9), (15, 20)], 20, 70, 1.5, 100) == [6, 20]


def test_gaps_are_never_shrunk():
    """A trace of 40 tokens in 15 places: the factor would be 15 / 40; it stays 1."""
    assert stretched_positions([(10, 15), (35, 40)], 40, 15, 1.5, 100) == [10, 35]


def test_the_factor_spreads_the_whole_trace_over_the_room():
    """A trace of 30 tokens, room 36: 1.2. Gaps 10 and 10 become 12 and 12."""
    assert stretched_positions([(10, 15), (25, 30)], 30, 36, 1.5, 100) == [12, 29]


def test_a_gap_between_chunks_is_cut_to_its_limit():
    """The first chunk stands at 90 * 1.5 = 135; the gap of 90 after it is 135 too, cut to 100."""
    assert stretched_positions([(90, 95), (185, 190)], 190, 370, 1.5, 100) == [135, 240]
