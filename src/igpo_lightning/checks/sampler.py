"""Checks of the sampler: its order, its schedule, and what goes with what."""

from omegaconf import DictConfig

from igpo_lightning.checks.basics import require, require_at_least, require_choice, require_within


def check_sampler(config: DictConfig) -> None:
    """Length, blocks and steps."""
    sampler = config.sampler
    require_at_least(config, 1, "sampler.completion_length", "sampler.block_length")
    length, width = sampler.completion_length, sampler.block_length
    require(
        length % width == 0,
        "sampler.block_length",
        width,
        f"must divide sampler.completion_length={length}",
    )
    blocks = length // width
    require(
        sampler.steps >= blocks and sampler.steps % blocks == 0,
        "sampler.steps",
        sampler.steps,
        f"must be a multiple of the {blocks} blocks "
        f"(sampler.completion_length={length} / sampler.block_length={width}), "
        f"for example {max(1, round(sampler.steps / blocks)) * blocks}",
    )
    require(
        sampler.steps <= length,
        "sampler.steps",
        sampler.steps,
        f"more steps than tokens; give at most sampler.completion_length={length}",
    )
    require_at_least(config, 0, "sampler.temperature", "eval.temperature", "sampler.cfg_scale")
    check_unmasking(config)
    check_sampler_speed(config)


def check_unmasking(config: DictConfig) -> None:
    """Strategy, schedule and parallel rules."""
    sampler = config.sampler
    probabilities = ("low_confidence", "margin", "topk_margin")
    require_choice(config, "sampler.remasking", (*probabilities, "random", "entropy"))
    require_choice(config, "sampler.schedule", ("fixed", "linear", "cosine"))
    require_choice(config, "sampler.eos", ("free", "last", "never"))
    require_within(config, 0, 1, "sampler.remask", "sampler.confidence_threshold", "sampler.top_p")
    require(sampler.remask < 1, "sampler.remask", sampler.remask, "must be below 1")
    require(sampler.top_p != 0, "sampler.top_p", sampler.top_p, "must be above 0")
    require_at_least(config, 1, "sampler.top_k")
    require(
        sampler.factor is None or sampler.factor > 0,
        "sampler.factor",
        sampler.factor,
        "must be above 0",
    )
    if sampler.confidence_threshold is None and sampler.factor is None:
        return
    rule = "factor" if sampler.confidence_threshold is None else "confidence_threshold"
    for key, fits, problem in (
        ("factor", rule == "factor" or sampler.factor is None, "give only one of the two"),
        ("remasking", sampler.remasking in probabilities, "use one of " + ", ".join(probabilities)),
        ("schedule", sampler.schedule == "fixed", "leave it at fixed"),
        ("remask", sampler.remask == 0, "leave it at 0"),
    ):
        require(fits, f"sampler.{key}", sampler[key], f"with sampler.{rule} set: {problem}")


def check_sampler_speed(config: DictConfig) -> None:
    """Caches, compilation and what they exclude."""
    sampler = config.sampler
    require_choice(config, "sampler.cache", ("none", "prefix", "dual"))
    require_choice(config, "sampler.compile", ("none", "default", "cuda_graphs"))
    require_choice(config, "sampler.autocast", ("none", "bfloat16"))
    require_at_least(config, 1, "sampler.cache_refresh", "sampler.token_budget")
    require_at_least(config, 1, "sampler.cache_blocks")
    for key, neutral in (("cache_refresh", None), ("cache_blocks", 1)):
        require(
            sampler[key] == neutral or sampler.cache != "none",
            f"sampler.{key}",
            sampler[key],
            "there is no cache to refresh; set sampler.cache=prefix or dual, or leave it "
            + ("null" if neutral is None else str(neutral)),
        )
    require(
        sampler.cache_refresh is None or sampler.cache_blocks == 1,
        "sampler.cache_refresh",
        sampler.cache_refresh,
        f"cannot be combined with sampler.cache_blocks={sampler.cache_blocks}; leave one as it is",
    )
    graphs = sampler.compile == "cuda_graphs"
    require(
        not graphs or config.trainer.accelerator == "gpu",
        "sampler.compile",
        sampler.compile,
        "needs trainer=gpu; use sampler.compile=default on CPUs",
    )
    require(
        not graphs or sampler.cache == "none",
        "sampler.compile",
        sampler.compile,
        f"cannot replay sampler.cache={sampler.cache}; use sampler.compile=default with a cache",
    )
    require(
        sampler.compile == "none" or config.trainer.strategy != "fsdp",
        "sampler.compile",
        sampler.compile,
        "cannot compile over trainer.strategy=fsdp; use sampler.compile=none",
    )
