"""Checks of the method: hints, objective, rewards, likelihood."""

from omegaconf import DictConfig

from igpo_lightning.checks.basics import require, require_at_least, require_choice, require_within
from igpo_lightning.plugins import known_names


def check_inpaint(config: DictConfig) -> None:
    """Hints: trigger, ratios, chunks, placement, and that they fit into the completion."""
    inpaint, length = config.inpaint, config.sampler.completion_length
    require_choice(config, "inpaint.trigger", ("all_wrong", "mean_below", "always", "never"))
    require_choice(config, "inpaint.scope", ("group", "batch"))
    require_choice(config, "inpaint.extra_samples", ("hinted", "plain"))
    require_choice(config, "inpaint.schedule", ("constant", "linear", "cosine", "adaptive"))
    require_choice(config, "inpaint.choice", ("random", "prefix", "suffix", "uncertain"))
    require_choice(config, "inpaint.placement", ("own", "stretched"))
    require_choice(config, "inpaint.long_traces", ("cut", "skip", "compress"))
    require_within(
        config,
        0,
        1,
        "inpaint.ratio",
        "inpaint.ratio_low",
        "inpaint.ratio_high",
        "inpaint.schedule_final",
        "inpaint.max_share",
        "inpaint.noise",
        "inpaint.replace_fraction",
    )
    require(
        inpaint.ratio_low <= inpaint.ratio_high,
        "inpaint.ratio_low",
        inpaint.ratio_low,
        f"is above inpaint.ratio_high={inpaint.ratio_high}; give the smaller one first",
    )
    require_at_least(
        config,
        1,
        "inpaint.chunk_min",
        "inpaint.rounds",
        "inpaint.round_growth",
        "inpaint.stretch",
        "inpaint.gap_limit",
    )
    require(
        inpaint.chunk_min <= inpaint.chunk_max,
        "inpaint.chunk_min",
        inpaint.chunk_min,
        f"is above inpaint.chunk_max={inpaint.chunk_max}; give the smaller one first",
    )
    require(
        inpaint.chunk_max <= length,
        "inpaint.chunk_max",
        inpaint.chunk_max,
        "a hint chunk is longer than the completion; give at most "
        f"sampler.completion_length={length}",
    )
    if inpaint.placement == "stretched":
        require(
            0 <= inpaint.tail < length,
            "inpaint.tail",
            inpaint.tail,
            f"leaves no room for hints; give 0 to sampler.completion_length - 1 = {length - 1}",
        )
        require(
            inpaint.long_traces != "compress",
            "inpaint.long_traces",
            inpaint.long_traces,
            "compresses own positions; with inpaint.placement=stretched use cut or skip",
        )


def check_objective(config: DictConfig) -> None:
    """Filter, advantage, objective and what they need of each other."""
    objective = config.objective
    require_choice(config, "filter.kind", ("entropy", "entropy_all", "threshold", "none"))
    require_choice(config, "objective.advantage", ("mean", "std", "loo", "dr_grpo", "wd1"))
    names = known_names(config, "objective")
    require(
        objective.loss in names,
        "objective.loss",
        objective.loss,
        f"use one of {', '.join(names)}, or one of your own from objective.plugin=FILE.py",
    )
    require_choice(config, "objective.ratio", ("sequence", "token"))
    require_choice(config, "objective.ratio_length", ("counted", "full"))
    require_choice(config, "objective.kl", ("k1", "k2", "k3", "none"))
    require_choice(config, "objective.normalization", ("sequence", "batch", "constant"))
    require_within(config, 0, 1, "filter.keep_fraction", "objective.clip_low")
    require(
        config.filter.keep_fraction > 0,
        "filter.keep_fraction",
        config.filter.keep_fraction,
        "must be above 0; filter=none keeps every hint token",
    )
    require_at_least(config, 0, "filter.threshold", "objective.clip_high", "objective.beta")
    require_at_least(config, 1, "objective.normalization_length")
    require(
        objective.ratio_length == "counted" or objective.ratio == "sequence",
        "objective.ratio_length",
        objective.ratio_length,
        "is a property of the sequence ratio; use it with objective.ratio=sequence",
    )


def check_rewards(config: DictConfig) -> None:
    """At least one reward, and every name registered."""
    weights = config.reward.weights
    require(
        bool(weights),
        "reward.weights",
        weights,
        "name at least one reward, for example reward=correctness",
    )
    names = known_names(config, "reward")
    for name, weight in weights.items():
        require(
            name in names,
            f"reward.weights.{name}",
            weight,
            f"no reward has this name; use one of {', '.join(names)}, or one of your own from "
            "reward.plugin=FILE.py",
        )


def check_likelihood(config: DictConfig) -> None:
    """The estimator, and the options that it has."""
    kinds = ("mean_field", "elbo", "quadrature", "strata", "sandwich", "trajectory")
    require_choice(config, "likelihood.kind", kinds)
    require_choice(config, "likelihood.coupling", ("independent", "shared", "antithetic"))
    counts = ("samples", "nodes", "strata", "slices", "upper_beta")
    require_at_least(config, 1, *(f"likelihood.{name}" for name in counts))
    require_within(config, 0, 1, "likelihood.upper_share", "likelihood.prompt_mask_rate")
    require_within(config, -1, 1, "likelihood.credit_strength")
    likelihood = config.likelihood
    require(
        likelihood.samples % 2 == 0
        or likelihood.coupling != "antithetic"
        or likelihood.kind not in ("elbo", "sandwich"),
        "likelihood.samples",
        likelihood.samples,
        "must be even with likelihood.coupling=antithetic, whose masks come in pairs",
    )
