"""Lengths: quantiles by hand, bins that lose nothing, a picture that is drawn."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from igpo_lightning.reporting.lengths import (
    LengthSummary,
    length_bars,
    length_bins,
    plot_lengths,
    summarise_lengths,
)


def test_a_summary_by_hand() -> None:
    # 1..20: the median is 10.5, 95 % (19 of 20) are at most 19, and 12 are at most 12.
    summary = summarise_lengths(list(range(1, 21)), limit=12)
    assert summary == LengthSummary(20, 10.5, 19, 20, 12, 12)
    assert summarise_lengths([7], 6) == LengthSummary(1, 7, 7, 7, 6, 0)
    assert summarise_lengths([], 6) is None


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 50_000), min_size=1, max_size=60))
def test_bins_are_few_equal_and_hold_everything(lengths: list[int]) -> None:
    bins = length_bins(lengths)
    assert 1 <= len(bins) <= 12
    assert sum(count for _, _, count in bins) == len(lengths)
    widths = {last - first + 1 for first, last, _ in bins}
    assert len(widths) == 1
    assert str(widths.pop()).rstrip("0") in ("1", "2", "5")
    for first, last, count in bins:
        assert count == sum(first <= length <= last for length in lengths)


@pytest.mark.parametrize(("limit", "marked"), [(5, 2), (24, 1), (25, 0)])
def test_bars_mark_what_is_too_long(limit: int, marked: int) -> None:
    """Bins of 5: 0-4, 10-14 and 25-29 hold something; a bin is marked if all of it is too long."""
    text = length_bars("prompts", [3, 4, 11, 29], limit).plain
    assert f"(limit {limit})" in text
    assert text.count("too long") == marked


@pytest.mark.parametrize("lengths", [[], [5, 9, 400]])
def test_the_picture(tmp_path: Path, lengths: list[int]) -> None:
    file = tmp_path / "lengths.png"
    by_split = {"train": lengths, "test": lengths[:1]}
    limits = {"prompt": 8, "trace": 300}
    plot_lengths(file, {"prompt": by_split, "trace": by_split}, limits, "title")
    assert file.read_bytes().startswith(b"\x89PNG")
    assert file.stat().st_size > 5000
