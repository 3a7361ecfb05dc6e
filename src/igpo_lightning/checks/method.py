"""Sampler, hints, and the names of objectives and rewards, plugins' among them."""

from igpo_lightning.plugins import known_names
from igpo_lightning.settings import Settings
from igpo_lightning.settings.rules import require

# Strategy and EOS rule whose scores are the probabilities of the tokens.
SCORED_BY_PROBABILITY = {("low_confidence", "free"), ("low_confidence", "never")}


def check_sampler(settings: Settings) -> None:
    """What a run asks of the sampler, which by itself may do more."""
    sampler, length = settings.sampler, settings.sampler.completion_length
    require(
        sampler.steps <= length,
        "sampler.steps",
        sampler.steps,
        f"more steps than tokens; give at most sampler.completion_length={length}",
    )
    require(
        sampler.compile != "cuda_graphs" or settings.trainer.accelerator == "gpu",
        "sampler.compile",
        sampler.compile,
        "needs trainer=gpu; use sampler.compile=default on CPUs",
    )
    require(
        sampler.compile == "none" or settings.trainer.strategy != "fsdp",
        "sampler.compile",
        sampler.compile,
        "cannot compile over trainer.strategy=fsdp; use sampler.compile=none",
    )


def check_inpaint(settings: Settings) -> None:
    """Hints fit into the completion."""
    inpaint, length = settings.inpaint, settings.sampler.completion_length
    require(
        inpaint.chunk_max <= length,
        "inpaint.chunk_max",
        inpaint.chunk_max,
        "a hint chunk is longer than the completion; give at most "
        f"sampler.completion_length={length}",
    )
    require(
        inpaint.placement != "stretched" or inpaint.tail < length,
        "inpaint.tail",
        inpaint.tail,
        f"leaves no room for hints; give 0 to sampler.completion_length - 1 = {length - 1}",
    )


def check_likelihood(settings: Settings) -> None:
    """The estimator fits the sampler and the normalisation."""
    likelihood, sampler = settings.likelihood, settings.sampler
    free = [
        name
        for name in ("confidence_threshold", "factor", "entropy_bound", "edit_threshold")
        if getattr(sampler, name) is not None
    ]
    require(
        likelihood.shrink is None or not free,
        "likelihood.shrink",
        likelihood.shrink,
        f"merges a fixed number of sampler steps; leave sampler.{' and '.join(free)} null, or take "
        "likelihood.kind=trajectory",
    )
    weighted = settings.objective.rollout_is
    require(
        weighted is None or likelihood.kind == "trajectory",
        "objective.rollout_is",
        weighted,
        f"compares policy and sampler on the sampler's canvases, which likelihood.kind="
        f"{likelihood.kind} does not score; set likelihood.kind=trajectory, or leave it null",
    )
    require(
        weighted is None or (sampler.remasking, sampler.eos) in SCORED_BY_PROBABILITY,
        "objective.rollout_is",
        weighted,
        "needs the sampler's probabilities as scores; set sampler.remasking=low_confidence and "
        "sampler.eos=free or never",
    )
    require(
        likelihood.positions is None or settings.objective.normalization in ("constant", "sum"),
        "likelihood.positions",
        likelihood.positions,
        "stands for a sum over all tokens; use it with objective.normalization=constant or sum",
    )


def check_names(settings: Settings) -> None:
    """Objective and rewards are registered here or by a plugin."""
    names = known_names(settings, "objective")
    require(
        settings.objective.loss in names,
        "objective.loss",
        settings.objective.loss,
        f"use one of {', '.join(names)}, or one of your own from objective.plugin=FILE.py",
    )
    if settings.stage.name != "rl":
        return
    weights = settings.reward.weights
    require(
        bool(weights),
        "reward.weights",
        weights,
        "name at least one reward, for example +reward.weights.correctness=1.0",
    )
    names = known_names(settings, "reward")
    for name, weight in weights.items():
        require(
            name in names,
            f"reward.weights.{name}",
            weight,
            f"no reward has this name; use one of {', '.join(names)}, or one of your own from "
            "reward.plugin=FILE.py",
        )
