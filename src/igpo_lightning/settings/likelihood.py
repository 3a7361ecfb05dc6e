"""How a completion's log-likelihood is estimated."""

import math
from dataclasses import dataclass, replace

from igpo_lightning.settings.rules import at_least, choice, require, within

ESTIMATORS = (
    "mean_field",
    "elbo",
    "pairs",
    "spread",
    "quadrature",
    "coupled",
    "strata",
    "sandwich",
    "blocks",
    "every_block",
    "trajectory",
    "autoregressive",
)
COUPLINGS = ("independent", "shared", "antithetic")


@dataclass(frozen=True)
class LikelihoodConfig:
    """Which estimator, and its parameters; diffusion/estimators.py says what each draws."""

    # mean_field (the paper, diffu-GRPO) | elbo | pairs (ESPO) | spread (BGPO) | quadrature (GDPO) |
    # coupled (DiffuCoder) | strata | sandwich | blocks (SPG) | every_block (EBPO) |
    # trajectory (TraceRL, CJ-GRPO) | autoregressive (exact; JustGRPO)
    kind: str = "mean_field"
    samples: int = 2  # random masks a row (pairs: pairs of them); quadrature: for each node
    coupling: str = "independent"  # of these masks: independent | shared | antithetic
    nodes: int = 2  # quadrature: nodes in t
    fixed_counts: bool = False  # quadrature: fixed number of masked tokens at each node
    round_down: bool = False  # quadrature: round that number down (GDPO's code), not at random
    strata: int = 4  # strata: complementary masks, each scoring its own tokens
    slices: int = 4  # trajectory: slices of the order in which the sampler committed tokens
    shrink: int | None = (
        None  # trajectory: sampler steps a slice (TraceRL: 8); null: `slices` parts
    )
    positions: int | None = None  # autoregressive: random positions that are scored; null: all
    block_length: int = 32  # blocks, every_block: tokens of a block
    upper_beta: float = 1.5  # sandwich, blocks: beta of the upper bound, at least 1 (SPG: 1.5)
    upper_share: float = 0.5  # of the upper bound where the advantage is negative (SPG: 0.5)
    live_only: bool = False  # masks are drawn up to the first EOS; what follows is masked (SPG)
    separate: bool = False  # each masked input is a row of the loss of its own (TraceRL, BGPO)
    prompt_mask_rate: float = 0.0  # share of prompt tokens masked (the paper: 0; diffu-GRPO: 0.15)

    def __post_init__(self) -> None:
        """Refuse unknown names and values out of range."""
        choice(self, "likelihood", kind=ESTIMATORS, coupling=COUPLINGS)
        at_least(self, "likelihood", 1, "samples", "nodes", "strata", "slices", "upper_beta")
        at_least(self, "likelihood", 1, "shrink", "positions", "block_length")
        within(self, "likelihood", 0, 1, "upper_share", "prompt_mask_rate")
        require(
            self.samples % 2 == 0 or not self.pairs_samples,
            "likelihood.samples",
            self.samples,
            "must be even with likelihood.coupling=antithetic, whose masks come in pairs",
        )

    def for_sampler(self, steps: int) -> "LikelihoodConfig":
        """With `shrink`: as many slices as that number of denoising steps can fill."""
        if self.shrink is None:
            return self
        return replace(self, slices=math.ceil(steps / self.shrink))

    @property
    def pairs_samples(self) -> bool:
        """Whether the samples themselves are antithetic pairs (with quadrature the nodes are)."""
        return self.coupling == "antithetic" and self.kind in ("elbo", "sandwich")

    @property
    def has_upper_bound(self) -> bool:
        """Whether rows of negative advantage take part of an upper bound."""
        return self.kind in ("sandwich", "blocks")

    @property
    def partitions(self) -> bool:
        """Whether each token is scored in one input, so that its own row scores nothing else."""
        return self.kind in ("trajectory", "autoregressive")
