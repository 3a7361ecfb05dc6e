"""What the policy maximises."""

from dataclasses import dataclass

from igpo_lightning.settings.rules import at_least, choice, require, within

ADVANTAGES = ("mean", "std", "loo", "dr_grpo", "wd1")
RATIOS = ("sequence", "token")
RATIO_LENGTHS = ("counted", "full")
KL_ESTIMATES = ("k1", "k2", "k3", "none")
NORMALIZATIONS = ("sequence", "batch", "constant")


@dataclass(frozen=True)
class ObjectiveConfig:
    """Advantages, surrogate, KL penalty and normalisation; the defaults are the paper's."""

    advantage: str = "mean"  # mean (IGPO) | std (GRPO) | loo (RLOO) | dr_grpo | wd1
    loss: str = "clip"  # clip (PPO's surrogate) | log_likelihood (free of ratios) | a plugin's
    ratio: str = "sequence"  # importance ratio: sequence (IGPO) | token (GRPO)
    ratio_length: str = "counted"  # sequence ratio divides by: counted tokens | full (released)
    clip_low: float = 0.2  # epsilon below 1 (the paper: 0.2)
    clip_high: float = 0.2  # epsilon above 1 (the paper: 0.2)
    beta: float = 0.01  # weight of the KL penalty; 0 keeps no reference (the paper: 0.01)
    kl: str = "k3"  # estimator of the penalty: k1 | k2 | k3 | none
    normalization: str = "sequence"  # of token terms: sequence | batch (DAPO) | constant (Dr. GRPO)
    normalization_length: int | None = None  # the constant in tokens; null: completion_length
    drop_uniform_groups: bool = False  # groups with equal rewards do not count (DAPO)
    count_after_eos: bool = False  # tokens after the first EOS count too (released)
    plugin: str | None = None  # .py file of your own that registers the loss

    def __post_init__(self) -> None:
        """Refuse unknown names and values out of range; `checks` knows the losses of plugins."""
        choice(
            self,
            "objective",
            advantage=ADVANTAGES,
            ratio=RATIOS,
            ratio_length=RATIO_LENGTHS,
            kl=KL_ESTIMATES,
            normalization=NORMALIZATIONS,
        )
        within(self, "objective", 0, 1, "clip_low")
        at_least(self, "objective", 0, "clip_high", "beta")
        at_least(self, "objective", 1, "normalization_length")
        require(
            self.ratio_length == "counted" or self.ratio == "sequence",
            "objective.ratio_length",
            self.ratio_length,
            "is a property of the sequence ratio; use it with objective.ratio=sequence",
        )

    @property
    def needs_reference(self) -> bool:
        """Whether the reference policy has to be scored."""
        return self.beta > 0 and self.kl != "none"
