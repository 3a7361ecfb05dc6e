"""Where problems come from: a file, a folder of files, or the Hugging Face hub."""

import hashlib
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from igpo_lightning.data.hub import hub_rows
from igpo_lightning.data.jsonl import jsonl_rows
from igpo_lightning.data.problem import Problem
from igpo_lightning.errors import ConfigError
from igpo_lightning.rewards.extraction import (
    boxed_answer,
    extract_answer,
    hash_answer,
    stated_answer,
)

SPLITS = ("train", "validation", "test")
DATA_DIR = "IGPO_DATA_DIR"
_FIELDS = ("id", "question", "solution", "answer", "level")
_ANSWERS: dict[str, Callable[[str], str | None]] = {
    "column": lambda text: text.strip() or None,
    "box": boxed_answer,
    "hash": hash_answer,
    "the_answer_is": stated_answer,
    "any": extract_answer,
}


@dataclass
class Source:
    """A source of problems; also the schema of the `data` config group.

    Rows of files are read through `columns`, `answer_from`, `keep` and `unique_by`; rows of the
    hub through the settings of the same names in `hub`, because files in the common form (id,
    question, solution, answer, level) hold what a hub repository names otherwise.
    """

    name: str = "jsonl"  # names the files in IGPO_DATA_DIR, and begins the ids of rows without one
    path: str | None = None  # JSON-lines file (.jsonl or .jsonl.gz); {split} is replaced; beats all
    columns: dict[str, str | None] = field(default_factory=dict)  # field: column in files, if other
    answer_from: str = "column"  # in the answer column: column | box | hash | the_answer_is | any
    keep: dict[str, list[Any]] = field(default_factory=dict)  # column: values of the rows to keep
    unique_by: str | None = None  # column; only the first row of each value is kept
    hub: dict[str, dict[str, Any]] = field(
        default_factory=dict
    )  # split: repository, config, split, columns, answer_from, keep, unique_by
    validation_share: float = 0.05  # of train, held out where the source has no validation; [0, 1)
    limit: int | None = None  # at most this many problems a split, the first ones; null for all


@dataclass(frozen=True)
class _Rows:
    """Raw rows and how to read them.

    Attributes:
        where: File or repository, for messages.
        rows: (place for messages, index, row).
        reading: columns, answer_from, keep, unique_by.
        drop_unanswered: Hub rows in which no answer is found are left out; in a file it is a
            mistake.
        id_prefix: Begins the ids of rows without one.
    """

    where: str
    rows: Iterable[tuple[str, int, dict[str, Any]]]
    reading: dict[str, Any]
    drop_unanswered: bool
    id_prefix: str


def load_problems(source: Source, split: str) -> list[Problem]:
    """The problems of one split, in the order of the source.

    Looked up in this order: `source.path`; NAME.SPLIT.jsonl(.gz) or NAME.jsonl(.gz) in the folder
    that IGPO_DATA_DIR names; the Hugging Face hub or its local cache. Where no validation split
    exists, it is a share of train that depends on the ids alone, and train returns the others. A
    file that is not for one split serves as train (less the validation share) and as test (whole).

    Args:
        source: What to read.
        split: "train", "validation" or "test".

    Raises:
        ConfigError: Nothing was found, the split does not exist, or a row is malformed. It says
            what was looked for, where, and how to provide it.
    """
    if split not in SPLITS:
        raise ConfigError(f"split={split}: use one of {', '.join(SPLITS)}")
    if not 0 <= source.validation_share < 1:
        share = source.validation_share
        raise ConfigError(f"data.validation_share={share}: give a number from 0 to below 1")
    problems, own_validation = _find(source, split)
    if split != "test" and not own_validation:
        held_out = _held_out(source, problems)
        problems = [p for p in problems if (p.id in held_out) == (split == "validation")]
        if not problems:
            raise ConfigError(
                f"data.name={source.name}: the {split} split is empty, because "
                f"data.validation_share={source.validation_share} of a small train split leaves "
                "nothing for it; give more rows or another share"
            )
    return problems[: source.limit]


def _held_out(source: Source, problems: list[Problem]) -> set[str]:
    """The ids of the validation rows: those whose hashes are smallest, at least one."""
    if source.validation_share == 0:
        return set()
    count = max(1, round(source.validation_share * len(problems)))
    return set(sorted((p.id for p in problems), key=_hash)[:count])


def _hash(identity: str) -> str:
    return hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()


def _find(source: Source, split: str) -> tuple[list[Problem], bool]:
    """The rows that hold a split, and whether the source has a validation split of its own."""
    tried: list[str] = []
    for place in (_in_path, _in_folder, _on_hub):
        wanted = [split] if split != "validation" else ["validation", "train"]
        for name in wanted:
            rows = place(source, name, tried)
            if rows is not None:
                own = name == "validation" or (
                    name == "train" and place(source, "validation", []) is not None
                )
                shared = own and split == "validation" and rows.where == _where_train(source, place)
                return _read(rows), own and not shared
    raise ConfigError(_not_found(source, split, tried))
