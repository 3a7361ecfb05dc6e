"""How a completion's log-likelihood is estimated."""

from dataclasses import dataclass

from igpo_lightning.settings.rules import at_least, choice, require, within

ESTIMATORS = ("mean_field", "elbo", "quadrature", "strata", "sandwich", "trajectory")
COUPLINGS = ("independent", "shared", "antithetic")


@dataclass(frozen=True)
class LikelihoodConfig:
    """Which estimator, and its parameters; diffusion/estimators.py says what each draws."""

    # mean_field (the paper, diffu-GRPO) | elbo (with sequence ratio: ESPO) | quadrature (GDPO) |
    # strata (DACA-GRPO; DiffuCoder with 2) | sandwich (SPG) | trajectory (TraceRL)
    kind: str = "mean_field"
    samples: int = 2  # elbo, sandwich: masked inputs a row; quadrature: masks for each node
    coupling: str = "independent"  # of these masks: independent | shared | antithetic
    nodes: int = 2  # quadrature: nodes in t
    fixed_counts: bool = False  # quadrature: fixed number of masked tokens at each node
    strata: int = 2  # strata: complementary masks, each scoring its own tokens
    full_pass: bool = False  # strata: average with one pass over the fully masked completion
    slices: int = 4  # trajectory: slices of the order in which the sampler committed tokens
    upper_beta: float = 1.5  # sandwich: beta of the upper bound, at least 1 (SPG: 1.5)
    upper_share: float = 0.5  # sandwich: of the upper bound where the advantage is negative
    prompt_mask_rate: float = 0.0  # share of prompt tokens masked (the paper: 0; diffu-GRPO: 0.15)
    credit_strength: float = 0.0  # in [-1, 1]; above 0 early tokens count more; 0: all the same

    def __post_init__(self) -> None:
        """Refuse unknown names and values out of range."""
        choice(self, "likelihood", kind=ESTIMATORS, coupling=COUPLINGS)
        at_least(self, "likelihood", 1, "samples", "nodes", "strata", "slices", "upper_beta")
        within(self, "likelihood", 0, 1, "upper_share", "prompt_mask_rate")
        within(self, "likelihood", -1, 1, "credit_strength")
        require(
            self.samples % 2 == 0 or not self.pairs_samples,
            "likelihood.samples",
            self.samples,
            "must be even with likelihood.coupling=antithetic, whose masks come in pairs",
        )

    @property
    def pairs_samples(self) -> bool:
        """Whether the samples themselves are antithetic pairs (with quadrature the nodes are)."""
        return self.coupling == "antithetic" and self.kind in ("elbo", "sandwich")
