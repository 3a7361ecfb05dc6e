"""Checks of stages and data."""

from omegaconf import DictConfig

from igpo_lightning.checks.basics import (
    missing,
    require,
    require_at_least,
    require_choice,
    require_within,
)
from igpo_lightning.checks.sampler import check_sampler
from igpo_lightning.config import named_data
from igpo_lightning.data.reading import KINDS
from igpo_lightning.data.synthetic import MAX_LEVEL, WORDINGS
from igpo_lightning.errors import ConfigError
from igpo_lightning.evaluation.measurements import measurements


def check_data(config: DictConfig) -> None:
    """Kinds of sources, levels, mixtures and their weights."""
    data = config.data
    require_choice(config, "data.kind", KINDS)
    require_choice(config, "data.overlap", ("report", "remove", "ignore"))
    require_choice(config, "data.wording", WORDINGS)
    require_choice(config, "prompt.long_prompts", ("drop", "cut"))
    require_choice(config, "prompt.long_traces", ("cut", "drop"))
    require_at_least(config, 1, "data.limit")
    require(
        all(1 <= level <= MAX_LEVEL for level in data.levels)
        and (bool(data.levels) or data.name != "arithmetic"),
        "data.levels",
        data.levels,
        f"give levels from 1 to {MAX_LEVEL}, for example [1,2,3]",
    )
    require(
        len(data.terse_share) in (0, len(data.levels))
        and all(0 <= share <= 1 for share in data.terse_share),
        "data.terse_share",
        data.terse_share,
        f"give a share from 0 to 1 for each of data.levels={data.levels}, or none",
    )
    require(
        data.name != "mixture" or bool(data.parts),
        "data.parts",
        data.parts,
        "name the parts, for example data.parts=[gsm8k,math]",
    )
    for name in data.parts:
        nested = bool(named_data(name, "data.parts").parts) or name == "mixture"
        require(not nested, "data.parts", name, "is a mixture itself; name its parts")
    require(
        len(set(data.parts)) == len(data.parts),
        "data.parts",
        data.parts,
        "name every part once; data.weights gives their shares",
    )
    require(
        not data.weights or (len(data.weights) == len(data.parts) and min(data.weights) > 0),
        "data.weights",
        data.weights,
        f"give one number above 0 for each of data.parts={data.parts}, or none for equal shares",
    )
    for name in data.against:
        named_data(name, "data.against")
    if data.test_from is not None:
        named_data(data.test_from, "data.test_from")
    require(
        "{question}" in config.prompt.user,
        "prompt.user",
        config.prompt.user,
        "must hold {question}, which the problem's text replaces",
    )


def check_sft(config: DictConfig) -> None:
    """Options of supervised fine-tuning."""
    choices = {
        "padding": ("full", "longest", "packed"),
        "weighting": ("inverse_t", "uniform"),
        "timesteps": ("independent", "low_discrepancy"),
    }
    for name, allowed in choices.items():
        require_choice(config, f"stage.{name}", allowed)
    require_at_least(config, 1, "stage.max_length", "stage.eos_tail", "stage.bucket_steps")


def check_stage(config: DictConfig) -> None:
    """What each stage must be given."""
    if config.stage.name == "sft":
        check_sft(config)
    if config.stage.name == "eval_suite":
        check_suite(config)
    if config.stage.name == "generate":
        require(
            "prompt" in config.stage and not missing(config.stage, "prompt"),
            "stage.prompt",
            "???",
            "give the question, for example stage.prompt='A+3 B-2 from 12'",
        )
        require_at_least(config, 0, "stage.hint_position")
    if config.stage.name == "inspect":
        require_at_least(config, 0, "stage.rows")
    if config.stage.name == "export":
        require(
            config.checkpoint is not None,
            "checkpoint",
            "null",
            "name a checkpoint, for example checkpoint=RUN/checkpoints/last.ckpt",
        )
    if config.stage.name == "report":
        require(
            config.path is not None,
            "path",
            "null",
            "name the folder of a run or of a sweep, for example path=runs/rl_arithmetic/DATE",
        )
        require_at_least(config, 1, "stage.samples")
    if config.stage.name not in ("rl", "sft", "eval", "generate"):
        require(
            not config.dry_run,
            "dry_run",
            True,
            f"stage={config.stage.name} has no plan of its own; plan rl, sft, eval or generate",
        )
    if config.stage.name == "rewrite":
        check_rewrite(config)
    if config.stage.name == "tokenizer":
        require(
            not missing(config.stage, "output"),
            "stage.output",
            "???",
            "give the folder to write, for example stage.output=runs/tokenizer",
        )


def check_suite(config: DictConfig) -> None:
    """Benchmarks and lengths, before the first of them takes hours."""
    lengths, sampler = list(config.stage.lengths), config.sampler
    require(
        config.resume in (None, "auto"),
        "resume",
        config.resume,
        "stage=eval_suite goes on in its own hydra.run.dir; use auto, or null to begin again",
    )
    unique = len(set(lengths)) == len(lengths)
    require(unique, "stage.lengths", lengths, "name every length once")
    for key, least in (("temperatures", 0), ("samples", 1)):
        for name, value in config.stage[key].items():
            named_data(name, f"stage.{key}")
            require(value >= least, f"stage.{key}.{name}", value, f"give at least {least}")
    for length in lengths:
        require(length >= 1, "stage.lengths", lengths, "give numbers of tokens, at least 1")
        require(
            length * sampler.steps % sampler.completion_length == 0,
            "stage.lengths",
            lengths,
            f"{length} tokens take no whole number of steps at sampler.steps={sampler.steps} for "
            f"sampler.completion_length={sampler.completion_length}; change one of them",
        )
    for part in measurements(config):
        try:
            check_sampler(part.config)
        except ConfigError as error:
            raise ConfigError(
                f"stage.lengths={lengths}: {part.length} tokens do not fit the sampler: {error}"
            ) from error


def check_rewrite(config: DictConfig) -> None:
    """Rewriting: splits, formats, limits and the endpoint."""
    require_choice(config, "stage.split", ("train", "validation", "test"))
    require_choice(config, "stage.format", ("jsonl", "parquet"))
    require_choice(config, "rewriter.kind", ("extractive", "endpoint"))
    require_at_least(config, 1, "stage.limit", "stage.max_tokens")
    require_at_least(config, 1, "rewriter.attempts", "rewriter.concurrency")
    require_at_least(config, 1, "rewriter.max_output_tokens")
    require_at_least(config, 0, "rewriter.request_retries", "rewriter.temperature")
    for key in ("rewriter.timeout", "rewriter.requests_per_minute", "stage.copy_share"):
        group, name = key.split(".")
        value = config[group][name]
        require(value is None or value > 0, key, value, "must be above 0")
    require_within(config, 0, 1, "stage.copy_share")
    if config.rewriter.kind == "endpoint":
        model = config.rewriter.model
        require(
            bool(model),
            "rewriter.model",
            model,
            "set OPENAI_MODEL to the model's name on the server",
        )
        prompt = config.rewriter.prompt
        require(
            "{solution}" in prompt,
            "rewriter.prompt",
            repr(prompt[:60]),
            "must hold {solution}, and may hold {question}, {answer} and {max_tokens}; "
            "rewriter=endpoint has a prompt",
        )
