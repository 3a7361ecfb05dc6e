"""AdamW and its schedule."""

from dataclasses import dataclass

from igpo_lightning.settings.rules import above_zero, as_tuples, at_least, choice, require, within

SCHEDULES = ("trapezoid", "linear", "cosine")


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW with warm-up and a schedule of its rate, for both training stages."""

    lr: float = 5e-7  # learning rate (the paper: 5e-7)
    betas: tuple[float, float] = (0.9, 0.99)  # AdamW (the paper: 0.9, 0.99)
    weight_decay: float = 0.1  # (the paper: 0.1)
    grad_norm: float = 0.2  # gradients are clipped to this norm (the paper: 0.2)
    warmup_steps: int = 50  # optimizer steps of linear warm-up (the paper: 50)
    decay_share: float = 0.0  # trapezoid: share of all steps, at the end, with linear decay to 0
    # trapezoid (warm-up, plateau, decay_share) | linear to 0 (released) | cosine to a tenth
    schedule: str = "trapezoid"

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        as_tuples(self, "betas")
        fits = len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas)
        fix = "give two numbers in [0, 1), for example [0.9,0.99]"
        require(fits, "optimizer.betas", self.betas, fix)
        at_least(self, "optimizer", 0, "lr", "weight_decay", "warmup_steps")
        above_zero(self, "optimizer", "grad_norm")
        within(self, "optimizer", 0, 1, "decay_share")
        choice(self, "optimizer", schedule=SCHEDULES)
