"""Which tokens of a completion get gradient."""

from dataclasses import dataclass

from igpo_lightning.settings.rules import choice, require, within

FILTERS = ("entropy", "entropy_all", "none")


@dataclass(frozen=True)
class FilterConfig:
    """Which live tokens count, by the old policy's entropy at the input that is scored."""

    # entropy: top share of a row's hint tokens (the paper) | entropy_all: of all live tokens of the
    # batch (arXiv 2506.01939) | none: all
    kind: str = "entropy"
    keep_fraction: float = 0.2  # tau in (0, 1] (the paper: 0.2)
    round_down: bool = False  # keep floor(tau n) of n tokens, not ceil (released)

    def __post_init__(self) -> None:
        """Refuse unknown names and values out of range."""
        choice(self, "filter", kind=FILTERS)
        within(self, "filter", 0, 1, "keep_fraction")
        fix = "must be above 0; filter.kind=none keeps every hint token"
        require(self.keep_fraction > 0, "filter.keep_fraction", self.keep_fraction, fix)
