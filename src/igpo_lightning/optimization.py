"""AdamW and its learning rate over the steps, for both training stages."""

import math
from collections.abc import Callable, Iterable
from typing import Any

from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from igpo_lightning import distributed
from igpo_lightning.settings import OptimizerConfig


def trapezoid(step: int, total_steps: int, settings: OptimizerConfig) -> float:
    """Linear warm-up from above 0, a plateau, and linear decay over `decay_share` of all steps."""
    warm = min(1.0, (step + 1) / (settings.warmup_steps + 1))
    decay_steps = settings.decay_share * total_steps
    left = (total_steps - step) / decay_steps if decay_steps else 1.0
    return min(warm, max(0.0, min(1.0, left)))


def linear(step: int, total_steps: int, settings: OptimizerConfig) -> float:
    """Linear warm-up from 0 at the first step, then linear to 0 (transformers' "linear")."""
    if step < settings.warmup_steps:
        return step / settings.warmup_steps
    return _left(step, total_steps, settings)


def cosine(step: int, total_steps: int, settings: OptimizerConfig) -> float:
    """Linear warm-up from 0, then a half cosine to a tenth (transformers' with a least rate)."""
    if step < settings.warmup_steps:
        return step / settings.warmup_steps
    done = 1 - _left(step, total_steps, settings)
    return 0.1 + 0.9 * (1 + math.cos(math.pi * done)) / 2


def _left(step: int, total_steps: int, settings: OptimizerConfig) -> float:
    """Share of the steps after warm-up that is left, in [0, 1]."""
    return max(0.0, (total_steps - step) / max(1, total_steps - settings.warmup_steps))


# (step from 0, steps in all, settings) -> factor on the learning rate
SCHEDULES: dict[str, Callable[[int, int, OptimizerConfig], float]] = {
    "trapezoid": trapezoid,
    "linear": linear,
    "cosine": cosine,
}


def build_optimizer(
    parameters: Iterable[nn.Parameter], settings: OptimizerConfig, total_steps: int
) -> dict[str, Any]:
    """Optimizer and per-step scheduler in the form that `configure_optimizers` returns."""
    optimizer = AdamW(
        parameters,
        lr=settings.lr,
        betas=settings.betas,
        weight_decay=settings.weight_decay,
    )
    factor = SCHEDULES[settings.schedule]
    scheduler = LambdaLR(optimizer, lambda step: factor(step, total_steps, settings))
    return {
        "optimizer": optimizer,
        "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
    }


def clipped_step(
    optimizer: Any, scheduler: Any, parameters: Iterable[nn.Parameter], limit: float, loss: float
) -> tuple[float, bool]:
    """Clip the gradients to a norm and take one step; without effect where NaN or inf came up.

    A step that one rank cannot take is taken by none. It counts as a step all the same, so that
    schedules and the data's place do not depend on it.

    `optimizer` is Lightning's wrapper, which counts its steps, `limit` the largest norm, `loss`
    this rank's. Returns the norm before clipping, and whether the step was skipped.
    """
    clipped = nn.utils.clip_grad_norm_(parameters, limit)
    norm = (clipped.full_tensor() if hasattr(clipped, "full_tensor") else clipped).item()
    skip = distributed.any_rank(not (math.isfinite(norm) and math.isfinite(loss)))
    if skip:
        optimizer.zero_grad()  # without gradients AdamW changes neither weights nor moments
    optimizer.step()
    scheduler.step()
    return norm, skip
