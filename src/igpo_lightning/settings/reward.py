"""What a completion earns, and how its answer is found and graded."""

from dataclasses import dataclass, field

from igpo_lightning.settings.rules import above_zero, as_tuples, choice, require, within

EXTRACTION = ("quoted", "box", "tag", "hash", "stated", "number")
STRATEGIES = (*EXTRACTION, "first_box")  # the released code's, by name alone
GRADINGS = ("equivalence", "string")


@dataclass(frozen=True)
class RewardConfig:
    """Rewards by name and weight; `checks` knows the names, those of plugins among them."""

    weights: dict[str, float] = field(default_factory=lambda: {"correctness": 1.0})  # name: weight
    workers: int = 2  # grader processes, 1 to 1024
    timeout: float = 3.0  # seconds of computation a single grading may take, at most an hour
    # how an answer is found, the first that finds one: quoted, box, tag, hash, stated, number
    extraction: tuple[str, ...] = EXTRACTION
    grading: str = "equivalence"  # when an answer is right: equivalence | string (released)
    plugin: str | None = None  # .py file of your own that registers rewards

    def __post_init__(self) -> None:
        """Refuse unknown names and values out of range."""
        as_tuples(self, "extraction")
        within(self, "reward", 1, 1024, "workers")
        above_zero(self, "reward", "timeout")
        within(self, "reward", 0, 3600, "timeout")
        require(
            bool(self.extraction) and not set(self.extraction) - set(STRATEGIES),
            "reward.extraction",
            self.extraction,
            f"name at least one of {', '.join(STRATEGIES)}",
        )
        choice(self, "reward", grading=GRADINGS)
