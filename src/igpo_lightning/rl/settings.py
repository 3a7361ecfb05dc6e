"""Algorithm 1's inputs as plain values; see config.py for the keys that they come from."""

from dataclasses import dataclass

from igpo_lightning.diffusion.likelihood import LikelihoodSettings
from igpo_lightning.diffusion.sampler import SamplerConfig
from igpo_lightning.rl.filters import FilterSettings
from igpo_lightning.rl.injection import InpaintSettings
from igpo_lightning.rl.objectives import ObjectiveSettings


@dataclass(frozen=True)
class RLSettings:
    """Settings of the RL stage.

    Attributes:
        sampler: Of the rollouts.
        group_size: G, completions a prompt.
        inner_updates: mu, optimizer steps a rollout step.
        steps: Rollout steps of the run.
        rollout_batch_size: Rows a denoising pass.
        train_batch_size: Rows a forward and backward pass.
        inpaint: Who gets extra samples, and of which kind.
        filter: Which tokens count.
        objective: What is maximised.
        likelihood: How a completion's log-probability is estimated.
        reward_weights: Name and weight of each reward.
        seed: Of the run; every random choice follows from it.
        log_samples_every: Rollout steps between logged samples; 0 for none.
    """

    sampler: SamplerConfig
    group_size: int
    inner_updates: int
    steps: int
    rollout_batch_size: int
    train_batch_size: int
    inpaint: InpaintSettings
    filter: FilterSettings
    objective: ObjectiveSettings
    likelihood: LikelihoodSettings
    reward_weights: dict[str, float]
    seed: int
    log_samples_every: int
