"""How long prompts and traces are, against what fits: numbers, bars in the terminal, a picture."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import matplotlib.pyplot as plt
from rich.text import Text

from igpo_lightning.reporting.plots import BLUE, ORANGE

LENGTHS_FILE = "lengths.png"


@dataclass(frozen=True)
class LengthSummary:
    """Lengths in tokens.

    Attributes:
        count: How many there are, at least 1.
        median: Half are at most this long.
        percentile_95: 95 % are at most this long.
        longest: The longest.
        limit: What fits.
        fitting: How many are at most `limit` long.
    """

    count: int
    median: float
    percentile_95: int
    longest: int
    limit: int
    fitting: int


def summarise_lengths(lengths: Sequence[int], limit: int) -> LengthSummary | None:
    """The summary; None where there is nothing to measure."""
    if not lengths:
        return None
    ordered = sorted(lengths)
    return LengthSummary(
        count=len(ordered),
        median=median(ordered),
        percentile_95=ordered[-(-95 * len(ordered) // 100) - 1],  # nearest rank
        longest=ordered[-1],
        limit=limit,
        fitting=sum(length <= limit for length in ordered),
    )


def length_bins(lengths: Sequence[int], most: int = 12) -> list[tuple[int, int, int]]:
    """(first, last, count) of at most `most` bins of equal, round width that hold all lengths."""
    width = 1
    while max(lengths) // width >= most:
        width = _round_up(2 * width)
    bins = [0] * (max(lengths) // width + 1)
    for length in lengths:
        bins[length // width] += 1
    first = next(i for i, count in enumerate(bins) if count)
    return [(i * width, (i + 1) * width - 1, count) for i, count in enumerate(bins) if i >= first]


def _round_up(width: int) -> int:
    """The next of 1, 2, 5, 10, 20, 50, ... that is not below `width`."""
    power = 10 ** (len(str(width)) - 1)
    return next(step * power for step in (1, 2, 5, 10) if step * power >= width)


def length_bars(title: str, lengths: Sequence[int], limit: int, width: int = 40) -> Text:
    """A histogram in text; bins that hold only what is over the limit are marked."""
    bins = length_bins(lengths)
    highest = max(count for _, _, count in bins)
    text = Text(f"{title}, tokens (limit {limit})\n", style="bold")
    for first, last, count in bins:
        bar = "\u2588" * max(round(width * count / highest), 1 if count else 0)
        over = first > limit
        text.append(f"{first:>7} - {last:<7}")
        text.append(f"{bar} {count}", style="red" if over else "cyan")
        text.append("  too long\n" if over and count else "\n", style="not bold")
    return text


def plot_lengths(
    file: Path,
    lengths: Mapping[str, Mapping[str, Sequence[int]]],
    limits: Mapping[str, int],
    title: str,
) -> None:
    """Write histograms, one panel for each of what is measured, one colour for each split.

    Args:
        lengths: What is measured ("prompt", "trace"): split: lengths.
        limits: What is measured: what fits, drawn as a line.
    """
    figure, panels = plt.subplots(
        1, len(lengths), figsize=(5.2 * len(lengths), 3.6), layout="constrained", squeeze=False
    )
    colours = {"train": BLUE, "validation": "#009E73", "test": ORANGE}
    colours |= {"before": ORANGE, "after": BLUE}  # a rewriting's
    for axes, (what, splits) in zip(panels[0], lengths.items(), strict=True):
        everything = [length for values in splits.values() for length in values]
        if everything:
            # A few giants would squeeze all others into one bar; the last bin takes them in.
            edge = max(limits[what], sorted(everything)[-(len(everything) // 200) - 1]) * 1.05
            for split, values in splits.items():
                clipped = [min(length, edge) for length in values]
                axes.hist(
                    clipped, bins=40, range=(0, edge), alpha=0.6, label=split, color=colours[split]
                )
            axes.legend(fontsize=8, frameon=False)
        axes.axvline(limits[what], color="black", linestyle="--", linewidth=1)
        axes.set_title(f"{what} (limit {limits[what]})", fontsize=10, loc="left")
        axes.set_xlabel("tokens")
        axes.set_ylabel("problems")
        axes.grid(alpha=0.25)
    figure.suptitle(title, fontsize=11)
    figure.savefig(file, dpi=110)
    plt.close(figure)
