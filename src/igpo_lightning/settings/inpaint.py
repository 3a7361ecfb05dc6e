"""Hints: who gets them, how much, which chunks, and where they stand."""

from dataclasses import dataclass

from igpo_lightning.settings.rules import at_least, choice, require, within

TRIGGERS = ("all_wrong", "always", "never")
SCOPES = ("group", "batch")
EXTRA_SAMPLES = ("hinted", "plain")
RATIO_SCHEDULES = ("constant", "linear", "cosine", "adaptive")
PLACEMENTS = ("own", "stretched")


@dataclass(frozen=True)
class InpaintConfig:
    """When groups get G extra samples, and how their hints are made; defaults are the paper's."""

    trigger: str = "all_wrong"  # who gets G extra samples: all_wrong | always | never
    scope: str = "group"  # where the trigger looks: group | batch of a process (released)
    extra_samples: str = "hinted"  # hinted | plain (no hints: the sample-matched control)
    ratio: float | None = None  # fixed hint ratio eta in [0, 1]; null draws from the range
    ratio_low: float = 0.2  # eta_low (the paper: 0.2)
    ratio_high: float = 0.6  # eta_high (the paper: 0.6)
    schedule: str = "constant"  # of the ratio over steps: constant | linear | cosine | adaptive
    schedule_final: float = 0.0  # factor on the ratio at the last step, or where none is all wrong
    rounds: int = 1  # rounds for a group until one extra sample is right
    round_growth: float = 1.5  # factor on the ratio with each further round
    chunk_min: int = 5  # smallest chunk in tokens (the paper: 5)
    chunk_max: int = 10  # largest chunk in tokens (the paper: 10)
    drop_short_chunk: bool = False  # drop a last chunk below chunk_min (released)
    round_up: bool = False  # chunks given: floor(eta N) | true: N - floor((1 - eta) N) (released)
    always_last: bool = False  # give the last chunk whatever is drawn (released)
    placement: str = "own"  # own position in the trace | stretched gaps (released)
    stretch: float = 1.5  # stretched: largest factor on a gap
    gap_limit: int = 100  # stretched: largest gap in tokens
    tail: int = 30  # stretched: last positions of the completion that stay free, in tokens
    # hints leave out the final answer, and one that a hint holds all the same counts as wrong
    exclude_answer: bool = True  # (released: false)
    noise: float = 0.0  # share of hint tokens replaced by others of the trace, in [0, 1]
    replace_fraction: float = 0.5  # lambda: at most floor(lambda * G) samples replaced (paper: 0.5)

    def __post_init__(self) -> None:
        """Refuse unknown names and values out of range."""
        choice(
            self,
            "inpaint",
            trigger=TRIGGERS,
            scope=SCOPES,
            extra_samples=EXTRA_SAMPLES,
            schedule=RATIO_SCHEDULES,
            placement=PLACEMENTS,
        )
        within(self, "inpaint", 0, 1, "ratio", "ratio_low", "ratio_high", "schedule_final")
        within(self, "inpaint", 0, 1, "noise", "replace_fraction")
        at_least(self, "inpaint", 1, "chunk_min", "rounds", "round_growth", "stretch", "gap_limit")
        at_least(self, "inpaint", 0, "tail")
        for low, high in (("ratio_low", "ratio_high"), ("chunk_min", "chunk_max")):
            least, most = getattr(self, low), getattr(self, high)
            fix = f"is above inpaint.{high}={most}; give the smaller one first"
            require(least <= most, f"inpaint.{low}", least, fix)

    @property
    def ratio_bounds(self) -> tuple[float, float]:
        """What eta is drawn from at full help: (low, high)."""
        if self.ratio is not None:
            return self.ratio, self.ratio
        return self.ratio_low, self.ratio_high
