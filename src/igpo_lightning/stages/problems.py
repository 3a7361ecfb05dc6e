"""From configuration to problems: read, compare with evaluation sets, encode, mix."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from transformers import PreTrainedTokenizerFast

from igpo_lightning.config import named_data
from igpo_lightning.data.mixtures import Part, mixture_index
from igpo_lightning.data.overlap import (
    HELD_OUT,
    TRAINED,
    Shared,
    evaluated_on,
    find_overlap,
)
from igpo_lightning.data.problem import Problem
from igpo_lightning.data.prompts import (
    EncodedProblem,
    encode_problems,
)
from igpo_lightning.data.sources import SplitNotFoundError, divided_file, load_problems
from igpo_lightning.errors import ConfigError
from igpo_lightning.reporting.visible import visible
from igpo_lightning.rewards.puzzles import is_solved
from igpo_lightning.rewards.released import same_string
from igpo_lightning.rewards.worker import Grader
from igpo_lightning.settings import DataConfig, RLStage, Settings, SFTStage

log = logging.getLogger(__name__)


def read_problems(config: Settings, split: str, limit: int | None = None) -> list[Problem]:
    """The problems of a split; the first `limit` of them.

    Those of train and validation are compared with the evaluation sets, as `data.overlap` says.
    """
    data = config.data
    if split != "test":
        return read_training(data, split)[:limit]
    if not isinstance(config.stage, RLStage | SFTStage):
        data = _undivided(data)  # nothing is trained on, so nothing needs to be held out
    return read_split(data, split)[:limit]


def _undivided(data: DataConfig) -> DataConfig:
    """The source with every row of its one file in test."""
    return replace(data, validation_share=0.0)


def name_evaluated(config: Settings, train: Sequence[Problem], problems: Sequence[Problem]) -> str:
    """What a training run's evaluation asks, in words; says where that is no split of its own.

    Args:
        problems: The split that it evaluates on, before `eval.limit`.
    """
    data, file = config.data, divided_file(config.data)
    words = evaluated_on(problems[: config.eval.limit], train)
    if words != HELD_OUT:
        log.warning(
            "data=%s: the evaluation asks %s, so its accuracy does not show what is learned for "
            "new problems; see data.validation_share",
            data.name,
            words,
        )
    elif file is not None and data.test_from is None:
        log.info(
            "data=%s: %s has no test split: %d of its %d problems are held out, %d are trained on "
            "(data.validation_share=%g)",
            data.name,
            file.name,
            len(problems),
            len(train) + len(problems),
            len(train),
            data.validation_share,
        )
        words += f" of {visible(file.name)}"
    return words


def name_asked(config: Settings) -> str:
    """What a run that trains nothing asks, in words: it cannot know what its model has seen."""
    file = divided_file(config.data)
    if config.eval.split == "test" and file is not None and config.data.test_from is None:
        return f"problems of {visible(file.name)}"
    return {"train": TRAINED}.get(config.eval.split, f"{config.eval.split} problems")


def read_split(data: DataConfig, split: str) -> list[Problem]:
    """The problems of a split as the source has them: generated, read, or those of its parts.

    Raises:
        SplitNotFoundError: No place holds it.
        ConfigError: A setting or a row is wrong.
    """
    if split == "test" and data.test_from is not None:
        return read_split(named_data(data.test_from, "data.test_from"), split)
    if data.parts:
        return _read_parts(data, split)
    return load_problems(data, split)


def read_training(data: DataConfig, split: str = "train") -> list[Problem]:
    """Train or validation problems, less those of the evaluation sets where `data.overlap=remove`.

    Raises:
        ConfigError: As `read_split`, or nothing is left.
    """
    problems = read_split(data, split)
    if data.overlap == "ignore":
        return problems
    shared = find_overlap(problems, evaluation_sets(data, split))
    if not shared:
        return problems
    found = describe_overlap(data, split, len(problems), shared)
    log.warning("data=%s: %s", data.name, visible(found))
    if data.overlap == "report":
        return problems
    gone = {entry.train_id for entry in shared}
    kept = [problem for problem in problems if problem.id not in gone]
    if not kept:
        raise ConfigError(
            f"data.overlap=remove: every {split} problem of data={data.name} is an evaluation "
            "problem; use data.overlap=report, or other evaluation sets (data.against)"
        )
    return kept


def describe_overlap(data: DataConfig, split: str, total: int, shared: Sequence[Shared]) -> str:
    """How many problems of a split are evaluation problems, of which sets, and what was done."""
    count = len({entry.train_id for entry in shared})
    by_set = Counter((entry.evaluation, entry.exact) for entry in shared)
    parts = [
        f"{number} in {name} ({'exactly' if exact else 'after normalising'})"
        for (name, exact), number in sorted(by_set.items())
    ]
    done = "removed" if data.overlap == "remove" else "kept, see data.overlap"
    return f"{count} of {total} {split} problems are evaluation problems, {done}: " + ", ".join(
        parts
    )


def evaluation_sets(data: DataConfig, split: str) -> dict[str, list[Problem]]:
    """Evaluation sets by name, to compare a split with; says which were not found.

    One file's validation rows are its test rows, so they are not compared with themselves.
    """
    sets: dict[str, list[Problem]] = {}
    same = split == "validation" and data.test_from is None and divided_file(data) is not None
    wanted = {} if same else {data.test_from or data.name: data}
    wanted |= {name: _undivided(named_data(name, "data.against")) for name in data.against}
    for name, source in wanted.items():
        try:
            sets[name] = read_split(source, "test")
        except SplitNotFoundError:
            log.warning("data=%s: not compared with %s: no test split found", data.name, name)
    return sets


def _read_parts(data: DataConfig, split: str) -> list[Problem]:
    """The parts of a mixture one after the other; ids begin with the part's name."""
    problems: list[Problem] = []
    missing: list[SplitNotFoundError] = []
    for name in data.parts:
        part = named_data(name, "data.parts")
        if data.limit is not None:
            part = replace(part, limit=data.limit)
        try:
            rows = read_split(part, split) if split == "test" else read_training(part, split)
        except SplitNotFoundError as error:
            if split != "test":
                raise
            missing.append(error)
            log.warning("data=%s: part %s has no test split", data.name, name)
            continue
        problems += [replace(p, id=f"{name}/{p.id}", part=name) for p in rows]
    if not problems:
        raise missing[0]
    return problems


def encode(
    config: Settings,
    problems: list[Problem],
    tokenizer: PreTrainedTokenizerFast,
    max_trace: int | None = None,
    keep_long: bool = False,
) -> list[EncodedProblem]:
    """Problems as tokens; says how many were cut or dropped for their length.

    Args:
        max_trace: Tokens of a training completion; None for problems that are only asked.
        keep_long: Only count the traces that are too long: hints are cut from whole traces.

    Raises:
        ConfigError: None is left.
    """
    form = config.prompt
    encoded, counts = encode_problems(problems, tokenizer, form, max_trace, keep_long)
    long_prompts, long_traces = counts["long_prompts"], counts["long_traces"]
    if long_prompts:
        log.info(
            "%s: %d of %d prompts longer than prompt.max_length=%d tokens: %s",
            *(config.data.name, long_prompts, counts["problems"], form.max_length),
            "cut" if form.long_prompts == "cut" else "dropped",
        )
    if long_traces:
        log.info(
            "%s: %d of %d traces longer than %d tokens: %s",
            *(config.data.name, long_traces, counts["traces"], max_trace),
            "hints come from their beginning" if keep_long else "cut",
        )
    if not encoded:
        raise ConfigError(
            f"prompt.max_length={config.prompt.max_length}: no problem of data={config.data.name} "
            "is short enough; raise it, or use prompt.long_prompts=cut"
        )
    return encoded


def with_traces(problems: list[EncodedProblem], name: str) -> list[EncodedProblem]:
    """The problems that have a trace; says how many have none.

    Raises:
        ConfigError: None has one.
    """
    usable = [p for p in problems if p.trace_ids is not None]
    if len(usable) < len(problems):
        log.info(
            "%s: %d of %d problems have no trace", name, len(problems) - len(usable), len(problems)
        )
    if not usable:
        raise ConfigError(f"data={name}: no problem has a trace (solution), which stage=sft needs")
    return usable


def example_stream(
    config: Settings, examples: Sequence[EncodedProblem]
) -> Callable[[int], EncodedProblem]:
    """The endless training stream: the example at a position.

    Reshuffled epochs, or those of the parts mixed by weight where the data is a mixture.

    Raises:
        ConfigError: A part of the mixture has no example left.
    """
    names = list(config.data.parts) or [""]
    weights = list(config.data.weights) or [1.0] * len(names)
    by_part: dict[str, list[EncodedProblem]] = {name: [] for name in names}
    for example in examples:
        by_part[example.problem.part].append(example)
    for name, rows in by_part.items():
        if not rows:
            raise ConfigError(
                f"data.parts: no problem of part {name} is left to train on (length, "
                "missing traces); leave it out, or raise the limits"
            )
    parts = [Part(len(by_part[name]), weight) for name, weight in zip(names, weights, strict=True)]
    seed: int = config.seed

    def at(position: int) -> EncodedProblem:
        part, index = mixture_index(position, parts, seed)
        return by_part[names[part]][index]

    return at


def grader(config: Settings) -> Grader | None:
    """What compares answers, where not plain equivalence does (None): strings, or puzzles."""
    if config.reward.grading == "string":
        return same_string
    sources = [config.data]
    sources += [named_data(name, "data.parts") for name in config.data.parts]
    for source in list(sources):
        if source.test_from is not None:
            sources.append(named_data(source.test_from, "data.test_from"))
    return is_solved if any(source.kind != "math" for source in sources) else None
