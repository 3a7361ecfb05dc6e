"""What the policy maximises."""

from dataclasses import dataclass

from igpo_lightning.settings.rules import above_zero, at_least, choice, require, within

ADVANTAGES = (
    "mean",
    "dr_grpo",
    "std",
    "z_score",
    "batch",
    "loo",
    "wd1",
    "wd1_positive",
    "normalize_then_sum",
)
RATIOS = ("sequence", "token")
ROLLOUT_IS = ("token", "sequence")
RATIO_LENGTHS = ("counted", "full", "one")
TOKENS = ("counted", "live")
KL_ESTIMATES = ("k1", "k2", "k3", "none")
KL_LEVELS = ("token", "sequence")
KL_TARGETS = ("reference", "old")
NORMALIZATIONS = ("sequence", "sum", "constant", "batch", "micro_batch")


@dataclass(frozen=True)
class ObjectiveConfig:
    """Advantages, surrogate, KL penalty and normalisation; the defaults are the paper's."""

    # mean (IGPO) | std (GRPO) | z_score (TraceRL) | batch | loo (RLOO) | dr_grpo | wd1 |
    # wd1_positive | normalize_then_sum
    advantage: str = "mean"
    advantage_epsilon: float = 1e-4  # added to a standard deviation before division (DARE: 1e-6)
    # clip (PPO's) | linear_clip (BGPO) | cispo | sapo | vespo | log_likelihood (no ratio) | yours
    loss: str = "clip"
    ratio: str = "sequence"  # importance ratio: sequence (IGPO) | token (GRPO)
    ratio_length: str = "counted"  # sequence ratio divides by: counted | full (released) | one
    ratio_tokens: str = "counted"  # sequence ratio covers: counted tokens | live (released)
    clip_low: float = 0.2  # epsilon below 1 (the paper: 0.2)
    clip_high: float = 0.2  # epsilon above 1 (the paper: 0.2)
    clip_dual: float | None = None  # least gain over a negative advantage (DARE: 3; TRL's delta)
    # rows of negative advantage whose mean log(old / new) in nats is larger gain nothing; null: all
    off_policy_limit: float | None = None
    # weights of min(policy / sampler, threshold) for each: token | sequence; null: none
    rollout_is: str | None = None
    rollout_is_threshold: float = 2.0  # C, above 0 (verl: 2; TRL's cap: 3)
    sapo_positive: float = 1.0  # sapo: temperature where the advantage is positive (TRL: 1)
    sapo_negative: float = 1.05  # sapo: temperature elsewhere (TRL: 1.05)
    beta: float = 0.01  # weight of the KL penalty; 0 keeps no reference (the paper: 0.01)
    kl: str = "k3"  # estimator of the penalty: k1 (no expected gradient) | k2 | k3 | none
    kl_level: str = "token"  # estimate for each token | for the whole sequence (ESPO, GDPO)
    kl_weighted: bool = False  # each token's estimate times its ratio: unbiased after updates
    kl_target: str = "reference"  # the penalty's other policy: reference | old (TraceRL)
    kl_normalization: str | None = None  # the penalty's own normalization; null: that of the loss
    # of token terms: sequence | sum | batch (DAPO) | micro_batch (released) | constant (Dr. GRPO)
    normalization: str = "sequence"
    normalization_length: int | None = None  # the constant in tokens; null: completion_length
    normalization_rows: int | None = None  # micro_batch: its rows; null: one group
    denominator_tokens: str = "counted"  # a row's mean divides by: counted | live tokens
    drop_uniform_groups: bool = False  # groups with equal rewards do not count (DAPO)
    accuracy_low: float = 0.0  # groups with a smaller share of right answers do not count
    accuracy_high: float = 1.0  # groups with a larger share do not count (TraceRL: 0.2 to 0.8)
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
            ratio_tokens=TOKENS,
            denominator_tokens=TOKENS,
            kl=KL_ESTIMATES,
            kl_level=KL_LEVELS,
            kl_target=KL_TARGETS,
            normalization=NORMALIZATIONS,
        )
        if self.rollout_is is not None:
            choice(self, "objective", rollout_is=ROLLOUT_IS)
        if self.kl_normalization is not None:
            choice(self, "objective", kl_normalization=NORMALIZATIONS)
        within(self, "objective", 0, 1, "clip_low", "accuracy_low", "accuracy_high")
        at_least(self, "objective", 0, "clip_high", "beta", "advantage_epsilon", "off_policy_limit")
        at_least(self, "objective", 1, "normalization_length", "normalization_rows", "clip_dual")
        above_zero(self, "objective", "sapo_positive", "sapo_negative", "rollout_is_threshold")
        require(
            self.ratio_length == "counted" or self.ratio == "sequence",
            "objective.ratio_length",
            self.ratio_length,
            "is a property of the sequence ratio; use it with objective.ratio=sequence",
        )

    @property
    def has_penalty(self) -> bool:
        """Whether there is a KL penalty."""
        return self.beta > 0 and self.kl != "none"

    @property
    def needs_reference(self) -> bool:
        """Whether the reference policy has to be scored."""
        return self.has_penalty and self.kl_target == "reference"
