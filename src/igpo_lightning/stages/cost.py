"""FLOPs and hours of a run, by what they are spent on, before it starts.

Products of exact counts (models/plan.py) and the settings. What is not known before a run is
assumed, and said: the share of groups that are all wrong, and the size of a test set that was not
limited. `benchmarks/scaling.py` makes its tables of these functions.
"""

import math
from dataclasses import dataclass

import torch

from igpo_lightning.diffusion.masked_inputs import draw_masked_inputs
from igpo_lightning.diffusion.noise import row_keys
from igpo_lightning.diffusion.work import computed_share
from igpo_lightning.models.memory import Plan, Workload
from igpo_lightning.settings import RLStage, Settings, SFTStage

ALL_WRONG = 0.3  # share of groups that are sampled again
PROBLEMS = 1000  # of an evaluation whose data set is not read


@dataclass(frozen=True)
class StepFlops:
    """FLOPs of a rollout step on the device that has most of them; *mean* is an average device's.

    Attributes:
        sampling: G completions a prompt.
        inpainting: Extra samples of all-wrong groups.
        inpainting_mean: The same.
        likelihoods: Old and reference scores.
        update: Forward and backward passes of the mu updates.
    """

    sampling: float
    inpainting: float
    inpainting_mean: float
    likelihoods: float
    update: float


@dataclass(frozen=True)
class RunFlops:
    """FLOPs of a whole run by part: of all devices, and of the one that has most of them."""

    everywhere: dict[str, float]
    busiest: dict[str, float]

    def __add__(self, other: "RunFlops") -> "RunFlops":
        """Of two runs, one after the other."""
        return RunFlops(
            *(
                {name: a.get(name, 0.0) + b.get(name, 0.0) for name in (a | b)}
                for a, b in (
                    (self.everywhere, other.everywhere),
                    (self.busiest, other.busiest),
                )
            )
        )

    def hours(self, tflops: float) -> dict[str, float]:
        """Hours of each part where a device reaches so many TFLOP/s: all wait for the busiest."""
        return {name: flops / (tflops * 1e12) / 3600 for name, flops in self.busiest.items()}


def extra_rows(groups: int, group_size: int, ranks: int, share: float) -> float:
    """Expected extra rows of the rank that gets most of them: all are dealt out evenly.

    Each group is all-wrong with probability `share`, independently.

    Args:
        groups: Of all ranks.
        group_size: G, extra rows for each all-wrong group.
    """
    return sum(
        math.comb(groups, k) * share**k * (1 - share) ** (groups - k) * -(-k * group_size // ranks)
        for k in range(groups + 1)
    )


def rollout_flops(config: Settings, plan: Plan, work: Workload) -> float:
    """Of a row: all denoising steps of a full canvas. A parallel rule needs fewer."""
    share = computed_share(config.sampler, work.canvas, work.block_size)
    passes = config.sampler.steps * share * work.copies
    return passes * work.canvas * plan.forward_flops


def masked_inputs(config: Settings, block_size: int | None = None) -> int:
    """N, forward passes that a likelihood takes of a row."""
    length, steps = config.sampler.completion_length, config.sampler.steps
    row = torch.zeros(1, length, dtype=torch.long)
    everywhere = torch.ones_like(row, dtype=torch.bool)
    inputs = draw_masked_inputs(
        config.likelihood.for_sampler(config.sampler.steps_in_order(block_size)),
        row,
        keys=row_keys([0]),
        live_mask=everywhere,
        unmask_step=torch.arange(length)[None] * steps // length,
        prompt_mask=everywhere[:, :1],
        advantages=torch.ones(1),
        block_size=block_size,
    )
    return inputs.masks.shape[1]


def step_flops(
    config: Settings, stage: RLStage, plan: Plan, work: Workload, all_wrong: float = ALL_WRONG
) -> StepFlops:
    """One step of RL; `all_wrong` is the share of groups that are all wrong."""
    rows = stage.prompts_per_step * stage.group_size // work.devices
    rollout = rollout_flops(config, plan, work)
    inputs = masked_inputs(config, work.block_size)
    policies = config.scores_old_policy + config.objective.needs_reference
    again = 0.0 if config.inpaint.trigger == "never" else float(config.inpaint.rounds)
    all_wrong = 1.0 if config.inpaint.trigger == "always" else all_wrong
    most = extra_rows(stage.prompts_per_step, stage.group_size, work.devices, all_wrong)
    return StepFlops(
        sampling=rows * rollout,
        inpainting=again * most * rollout,
        inpainting_mean=again * all_wrong * rows * rollout,
        likelihoods=rows * inputs * policies * work.train_canvas * plan.forward_flops,
        update=stage.inner_updates * rows * inputs * work.train_canvas * plan.train_flops,
    )


def evaluation_problems(config: Settings) -> tuple[int, bool]:
    """Problems of an evaluation, and whether that is known without reading the data."""
    data = config.data
    limits = [config.eval.limit, data.limit, data.eval_size if data.is_generated else None]
    known = [limit for limit in limits if limit is not None]
    return (min(known), True) if known else (PROBLEMS, False)


def evaluations(config: Settings) -> int:
    """How often held-out problems are answered."""
    stage = config.stage
    if isinstance(stage, RLStage):
        within = stage.steps // stage.eval_every if stage.eval_every else 0
        return within + stage.eval_before + stage.eval_after
    if isinstance(stage, SFTStage):
        return int(stage.eval_after)
    return int(stage.name == "eval")


def run_flops(
    config: Settings, plan: Plan, work: Workload, all_wrong: float = ALL_WRONG
) -> RunFlops:
    """Sampling, inpainting, update (with scoring) and evaluation of a whole run."""
    stage, devices = config.stage, work.devices
    rollout = rollout_flops(config, plan, work)
    answers, times = evaluation_problems(config)[0] * config.eval.samples, evaluations(config)
    mean = {"evaluation": times * answers / devices * rollout}
    most = {"evaluation": times * math.ceil(answers / devices) * rollout}
    if isinstance(stage, RLStage):
        step = step_flops(config, stage, plan, work, all_wrong)
        shared = {
            "sampling": stage.steps * step.sampling,
            "update": stage.steps * (step.likelihoods + step.update),
        }
        mean |= shared | {"inpainting": stage.steps * step.inpainting_mean}
        most |= shared | {"inpainting": stage.steps * step.inpainting}
    elif isinstance(stage, SFTStage):
        # Packed, rows are shorter: the most that it can take.
        rows = stage.steps * stage.batch_size // devices * (2 if stage.complementary else 1)
        update = rows * work.train_canvas * plan.train_flops
        validated = stage.steps // stage.val_every * stage.val_limit
        validation = validated / devices * work.train_canvas * plan.forward_flops
        for part in (mean, most):
            part["update"] = update
            part["evaluation"] += validation
    elif stage.name == "generate":
        mean, most = {"sampling": rollout}, {"sampling": rollout}
    ordered = [name for name in ("sampling", "inpainting", "update", "evaluation") if name in most]
    return RunFlops(
        {name: devices * mean[name] for name in ordered}, {name: most[name] for name in ordered}
    )
