"""How held-out problems are answered."""

from dataclasses import dataclass

from igpo_lightning.settings.data import SPLITS
from igpo_lightning.settings.rules import at_least, choice


@dataclass(frozen=True)
class EvalConfig:
    """Which problems, how many samples each, and at which temperature."""

    split: str = "test"  # train | validation | test
    limit: int | None = None  # at most this many problems; null for all
    temperature: float = 0.0  # 0 is greedy (the paper: 0; AMC 0.1)
    samples: int = 1  # completions a problem, k of avg@k (the paper: 1; AMC 16)
    batch_size: int = 64  # rows a forward pass

    def __post_init__(self) -> None:
        """Refuse unknown splits and values out of range."""
        choice(self, "eval", split=SPLITS)
        at_least(self, "eval", 1, "samples", "batch_size", "limit")
        at_least(self, "eval", 0, "temperature")
