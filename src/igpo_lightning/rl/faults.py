"""Which reward or objective is to blame where no update of a step could be made."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from igpo_lightning.rewards.functions import get_reward
from igpo_lightning.rl.objectives import OBJECTIVES
from igpo_lightning.rl.rollout import Rollout
from igpo_lightning.rl.scorer import Experience
from igpo_lightning.settings import ObjectiveConfig


def reward_faults(rollout: Rollout, ids: Sequence[str], names: Sequence[str]) -> list[str]:
    """One sentence for each reward that gave NaN or inf: its file, how often, and where first.

    `ids` are those of the Q problems, `names` in the order of `rollout.reward_parts`.
    """
    faults = []
    for column, name in enumerate(names):
        values = rollout.reward_parts[:, column]
        if not values.isfinite().all():
            reward = f"the reward {name} ({_place(get_reward(name))})"
            faults.append(f"{reward} gave {_where(rollout, ids, values)}")
    if not faults and not rollout.rewards.isfinite().all():
        faults.append(f"reward.weights make the sum {_where(rollout, ids, rollout.rewards)}")
    return faults


def objective_faults(
    experience: Experience, ids: Sequence[str], settings: ObjectiveConfig
) -> list[str]:
    """A sentence if the objective or its gradient is NaN or inf where all that it takes is finite.

    Tried at the scores of the policy that sampled, at which the first update of a step is made.
    """
    assert experience.old is not None
    old, row_of, objective = experience.old.logp, experience.row_of, OBJECTIVES[settings.loss]
    covered = experience.loss_mask if experience.ratio_mask is None else experience.ratio_mask
    advantages = experience.advantages[row_of]
    logp = old.detach().clone().requires_grad_()
    with torch.enable_grad():
        gain = objective(logp, old, advantages[:, None], covered, settings).gain
        (gradient,) = torch.autograd.grad(gain.sum(), logp)
    given = torch.where(covered, old, 0.0).isfinite().all(dim=1) & advantages.isfinite()
    made = gain.isfinite().all(dim=1) & gradient.isfinite().all(dim=1)
    values = torch.ones(len(experience.advantages), device=old.device)
    values[row_of[given & ~made]] = torch.nan
    if values.isfinite().all():
        return []
    return [
        f"the objective {settings.loss} ({_place(objective)}) or its gradient is "
        f"{_where(experience.rollout, ids, values)}, whose log-probabilities are finite"
    ]


def _where(rollout: Rollout, ids: Sequence[str], values: Tensor) -> str:
    """The first value that is not finite, and how many there are."""
    rows = (~values.isfinite()).nonzero().flatten().tolist()
    group, sample = divmod(rows[0], rollout.group_size)
    return (
        f"{float(values[rows[0]])} for {len(rows)} of {len(values)} samples, "
        f"first for sample {sample} (counted from 0) of problem {ids[group]}"
    )


def _place(function: Callable[..., Any]) -> str:
    """The name of a function and the file that defines it."""
    own = inspect.unwrap(function)
    name = getattr(own, "__qualname__", type(own).__qualname__)
    code = getattr(own, "__code__", None)
    return name if code is None else f"{name} in {code.co_filename}"
