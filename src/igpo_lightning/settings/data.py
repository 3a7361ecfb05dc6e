"""Where problems come from, and how their rows are read."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from igpo_lightning.errors import ConfigError
from igpo_lightning.settings.rules import above_zero, as_tuples, at_least, choice, require, within

SPLITS = ("train", "validation", "test")
KINDS = ("math", "countdown", "sudoku")
OVERLAPS = ("report", "remove", "ignore")
# How the traces of generated problems are written, the source's own wording first.
WORDINGS = {
    "arithmetic": ("names", "values"),
    "countdown": ("forward", "backward", "words"),
    "sudoku": ("cells", "digits"),
}
MAX_LEVEL = 4  # of the embedded task


@dataclass(frozen=True)
class Reading:
    """How rows are read."""

    columns: dict[str, str] = field(default_factory=dict)  # field: its column, where not the same
    answer_from: str = "column"  # column | in the solution: box | hash | the_answer_is | any
    keep: dict[str, list[Any]] = field(default_factory=dict)  # column: values of the rows to keep
    unique_by: str | None = None  # column; only the first row of each value is kept
    marks: tuple[str, ...] = ()  # columns of true/false, one for each solution


@dataclass(frozen=True)
class HubTable(Reading):
    """One split in a hub repository."""

    repository: str = ""  # owner/name, or a folder laid out like one
    config: str | None = None  # the repository's configuration, where it has several
    split: str = "train"  # the repository's name of the split

    def __post_init__(self) -> None:
        """Turn lists into tuples."""
        as_tuples(self, "marks")


def _hub_table(split: str, values: HubTable | Mapping[str, Any]) -> HubTable:
    """A table of `data.hub`, which OmegaConf hands over as a mapping."""
    if split not in SPLITS:
        raise ConfigError(f"data.hub.{split}: no such split; use {', '.join(SPLITS)}")
    known = [f.name for f in fields(HubTable)]
    if isinstance(values, HubTable):
        table = values
    elif unknown := sorted(set(values) - set(known)):
        key = f"data.hub.{split}.{unknown[0]}"
        raise ConfigError(f"{key}: there is no such key; use one of {', '.join(known)}")
    else:
        table = HubTable(**values)
    if not table.repository:
        raise ConfigError(f"data.hub.{split}.repository is missing; give owner/name")
    return table


@dataclass(frozen=True)
class DataConfig(Reading):
    """A source of problems, or a mixture of several.

    Rows of files are read through `columns`, `answer_from`, `keep` and `unique_by`; rows of the
    hub through the settings of the same names in `hub`, because files in the common form (id,
    question, solution, answer, level) hold what a hub repository names otherwise.
    """

    name: str = "jsonl"  # names the files in IGPO_DATA_DIR, and begins the ids of rows without one
    path: str | None = None  # .jsonl, .jsonl.gz, .csv or .parquet; {split} is replaced; beats all
    kind: str = "math"  # how answers are graded: math | countdown | sudoku
    question: str = "{question}"  # what is asked; {question}, {numbers}, {target}, {puzzle}
    # split: its table (columns, answer_from, keep, unique_by, marks, repository, config, split); a
    # split without an entry is not on the hub
    hub: dict[str, Any] = field(default_factory=dict)
    validation_share: float = 0.05  # of train, held out where the source has no validation; [0, 1)
    limit: int | None = None  # at most this many problems a split, the first ones; null for all
    parts: tuple[str, ...] = ()  # mixture: data=NAMEs that it consists of
    weights: tuple[float, ...] = ()  # mixture: a share for each; empty: equal
    test_from: str | None = None  # data=NAME that gives the test split, where there is none
    overlap: str = "report"  # train problems that are evaluation problems: report | remove | ignore
    against: tuple[str, ...] = ()  # data=NAMEs to compare with, beside test
    # in (0, 1]: RL passes over problems whose samples reach this running accuracy; null: none
    skip_accuracy: float | None = None
    levels: tuple[int, ...] = ()  # arithmetic: levels drawn, easiest is 1
    train_size: int = 4096  # generated: problems for RL; puzzles: for SFT too
    eval_size: int = 512  # generated: problems in validation; arithmetic: in test too
    terse_share: tuple[float, ...] = ()  # arithmetic SFT: bare answers, by level
    wording: str = ""  # generated traces: docs/data.md lists them; empty: the start's own wording

    def __post_init__(self) -> None:
        """Refuse unknown names, values out of range, and parts that do not fit."""
        as_tuples(self, "marks", "parts", "weights", "against", "levels", "terse_share")
        tables = {split: _hub_table(split, table) for split, table in self.hub.items()}
        object.__setattr__(self, "hub", tables)
        choice(self, "data", kind=KINDS, overlap=OVERLAPS)
        at_least(self, "data", 1, "limit")
        above_zero(self, "data", "skip_accuracy")
        within(self, "data", 0, 1, "skip_accuracy")
        require(
            0 <= self.validation_share < 1,
            "data.validation_share",
            self.validation_share,
            "give a number from 0 to below 1",
        )
        wordings = WORDINGS.get(self.name, ("",))
        object.__setattr__(self, "wording", self.wording or wordings[0])
        fix = (
            f"use one of {', '.join(wordings)}" if wordings[0] else "these traces are not generated"
        )
        require(self.wording in wordings, "data.wording", self.wording, fix)
        self._check_levels()
        self._check_parts()

    @property
    def is_generated(self) -> bool:
        """Whether the problems are those of the embedded task, made on the spot."""
        return self.name == "arithmetic" and self.path is None

    def _check_levels(self) -> None:
        require(
            all(1 <= level <= MAX_LEVEL for level in self.levels)
            and (bool(self.levels) or self.name != "arithmetic"),
            "data.levels",
            self.levels,
            f"give levels from 1 to {MAX_LEVEL}, for example [1,2,3]",
        )
        require(
            len(self.terse_share) in (0, len(self.levels))
            and all(0 <= share <= 1 for share in self.terse_share),
            "data.terse_share",
            self.terse_share,
            f"give a share from 0 to 1 for each of data.levels={list(self.levels)}, or none",
        )

    def _check_parts(self) -> None:
        require(
            len(set(self.parts)) == len(self.parts),
            "data.parts",
            self.parts,
            "name every part once; data.weights gives their shares",
        )
        require(
            not self.weights or (len(self.weights) == len(self.parts) and min(self.weights) > 0),
            "data.weights",
            self.weights,
            f"give one number above 0 for each of data.parts={list(self.parts)}, or none for equal "
            "shares",
        )
