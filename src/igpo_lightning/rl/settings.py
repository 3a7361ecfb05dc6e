"""Algorithm 1's inputs: the groups of `settings` that the RL stage reads."""

from dataclasses import dataclass

from igpo_lightning.settings import (
    FilterConfig,
    InpaintConfig,
    LikelihoodConfig,
    ObjectiveConfig,
    SamplerConfig,
)


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
    inpaint: InpaintConfig
    filter: FilterConfig
    objective: ObjectiveConfig
    likelihood: LikelihoodConfig
    reward_weights: dict[str, float]
    seed: int
    log_samples_every: int
