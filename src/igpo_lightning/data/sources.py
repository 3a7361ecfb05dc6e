"""Where problems come from: a file, a folder of files, or the Hugging Face hub."""

import hashlib
import logging
import os
from dataclasses import dataclass
from pathlib import Path

from igpo_lightning.config import named_data
from igpo_lightning.data.files import ENDINGS, file_rows, file_stem
from igpo_lightning.data.generated import GENERATORS, generated_puzzles
from igpo_lightning.data.hub import HubError, hub_rows
from igpo_lightning.data.problem import Problem
from igpo_lightning.data.reading import Form, read_problems
from igpo_lightning.data.synthetic import arithmetic_problems
from igpo_lightning.errors import ConfigError
from igpo_lightning.settings import DataConfig
from igpo_lightning.settings.data import SPLITS

log = logging.getLogger(__name__)

DATA_DIR = "IGPO_DATA_DIR"
_COLUMNS = {
    "math": "question, answer and, where there is one, solution",
    "countdown": "numbers and target",
    "sudoku": "question (16 digits, 0 where a cell is empty) and answer",
}


class SplitNotFoundError(ConfigError):
    """No place holds the split; the text says which were tried."""


@dataclass(frozen=True)
class _Found:
    """Problems, and how the place they come from divides its splits.

    Attributes:
        problems: Of the split.
        own_validation: The place has validation rows of its own.
    """

    problems: list[Problem]
    own_validation: bool = False


def load_problems(source: DataConfig | str, split: str = "train") -> list[Problem]:
    """The problems of one split, in the order of the source.

    The embedded task is generated. Other sources are looked up in this order: `source.path`;
    NAME.SPLIT.jsonl(.gz) or NAME.jsonl(.gz) in the folder that IGPO_DATA_DIR names; a generator,
    for train and validation of countdown and sudoku; the Hugging Face hub or its local cache.
    Where no validation split exists, it is a share of train that depends on the ids alone, and
    train returns the others. A file that is not for one split serves as train and, by the same
    held-out share, as validation and test; with a share of 0, and where the source has a single
    split, each split is the file.

    Args:
        source: What to read: a data configuration, the NAME of data=NAME, or the path of a file in
            the common form (id, question, solution, answer).
        split: "train", "validation" or "test".

    Raises:
        SplitNotFoundError: Nothing was found; says what was looked for, where, and what to do.
        ConfigError: A setting or a row is wrong.
    """
    if isinstance(source, str):
        is_file = source.endswith(ENDINGS)
        source = DataConfig(path=source) if is_file else named_data(source, "data")
    _check(source, split)
    if source.is_generated:
        size = source.train_size if split == "train" else source.eval_size
        problems = arithmetic_problems(split, size, source.levels, wording=source.wording)
        return problems[: source.limit]
    tried: list[str] = []
    for place in (_in_path, _in_folder, _made, _on_hub):
        found = place(source, split, tried)
        if found is None and split == "validation":
            found = place(source, "train", [])
        if found is not None:
            return _share(source, split, found)[: source.limit]
    raise SplitNotFoundError(_not_found(source, split, tried))


def _check(source: DataConfig, split: str) -> None:
    if split not in SPLITS:
        raise ConfigError(f"split={split}: use one of {', '.join(SPLITS)}")
    if source.parts:
        parts = ", ".join(source.parts)
        raise ConfigError(f"data={source.name}: a mixture of several sources; load each: {parts}")


def _share(source: DataConfig, split: str, found: _Found) -> list[Problem]:
    """What a split gets of the rows that were found for it."""
    if found.own_validation:
        return found.problems
    if split == "test" and (source.validation_share == 0 or divided_file(source) is None):
        return found.problems
    if split == "validation" and source.validation_share == 0:
        raise SplitNotFoundError(
            f"data={source.name}: there is no validation split with data.validation_share=0; give "
            f"a share above 0, or a file {source.name}.validation.jsonl"
        )
    held_out = _held_out(source.validation_share, found.problems)
    problems = [p for p in found.problems if (p.id in held_out) == (split != "train")]
    if not problems:
        raise ConfigError(
            f"data={source.name}: nothing is left for {split}, since "
            f"data.validation_share={source.validation_share} divides {len(found.problems)} "
            "problem(s) into two parts; give more rows, or data.validation_share=0 to "
            "train and evaluate on the same rows"
        )
    return problems


def _held_out(share: float, problems: list[Problem]) -> set[str]:
    """The ids of the validation rows, by their hashes; both parts get at least one row."""
    if share == 0:
        return set()
    hashes = sorted((_hash(p.id), p.id) for p in problems)
    count = sum(position < share for position, _ in hashes)
    count = max(1, min(count, len(hashes) - 1))
    return {identity for _, identity in hashes[:count]}


def _hash(identity: str) -> float:
    """A number in [0, 1) that depends on the id alone."""
    digest = hashlib.sha256(identity.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def _has(source: DataConfig, split: str) -> bool:
    """Whether the source has a split, as far as its hub entries say; own files may hold any."""
    return not source.hub or split in source.hub


def divided_file(source: DataConfig) -> Path | None:
    """The one file that serves as train and as test: a share of its rows is held out as test.

    None where test has a place of its own.
    """
    if source.path is not None:
        return None if "{split}" in source.path else Path(source.path).expanduser()
    folder = os.environ.get(DATA_DIR)
    if not folder or not (_has(source, "train") and _has(source, "test")):
        return None
    if any(_file_of(folder, f"{source.name}.{split}") for split in ("train", "test")):
        return None
    return _file_of(folder, source.name)


def _in_path(source: DataConfig, split: str, tried: list[str]) -> _Found | None:
    if source.path is None:
        tried.append("data.path is not set")
        return None
    whole = "{split}" not in source.path
    file = Path(source.path.replace("{split}", split)).expanduser()
    if not file.is_file():
        if split == "validation":
            return None
        what = f"{file} is a folder" if file.is_dir() else f"no file {file}"
        raise ConfigError(
            f"data.path={source.path}: {what}; name a file that ends in "
            f"{', '.join(ENDINGS)}, or leave data.path out"
        )
    own = not whole and (
        split == "validation" or Path(source.path.replace("{split}", "validation")).is_file()
    )
    return _Found(_read_file(source, file), own)


def _in_folder(source: DataConfig, split: str, tried: list[str]) -> _Found | None:
    folder = os.environ.get(DATA_DIR)
    if not folder:
        tried.append(f"{DATA_DIR} is not set")
        return None
    if not Path(folder).is_dir():
        tried.append(f"{DATA_DIR}={folder}: no such folder")
        return None
    file = _file_of(folder, f"{source.name}.{split}")
    if file is not None:
        own = split == "validation" or _file_of(folder, f"{source.name}.validation") is not None
        return _Found(_read_file(source, file), own)
    file = _file_of(folder, source.name)
    if file is not None and split != "validation" and _has(source, split):
        return _Found(_read_file(source, file))
    looked_for = ", ".join(f"{name}.jsonl(.gz)" for name in (f"{source.name}.{split}", source.name))
    tried.append(f"{DATA_DIR}={folder}: no {looked_for}")
    return None


def _made(source: DataConfig, split: str, tried: list[str]) -> _Found | None:
    if source.name not in GENERATORS or source.kind != source.name:
        return None
    if split == "test":
        tried.append("the generator makes train and validation only")
        return None
    size = source.train_size if split == "train" else source.eval_size
    problems = generated_puzzles(source.name, split, size, source.question, source.wording)
    return _Found(problems, own_validation=True)


def _file_of(folder: str, stem: str) -> Path | None:
    files = (Path(folder) / f"{stem}{ending}" for ending in ENDINGS)
    return next((file for file in files if file.is_file()), None)


def _read_file(source: DataConfig, file: Path) -> list[Problem]:
    form = Form(source.kind, source.question, file_stem(file), drop_unanswered=False)
    problems, _ = read_problems(file_rows(file), source, form)
    return _some(problems, str(file))


def _some(problems: list[Problem], where: str) -> list[Problem]:
    if not problems:
        raise ConfigError(f"{where}: no row is left: it holds none, or data.keep drops them all")
    return problems


def _on_hub(source: DataConfig, split: str, tried: list[str]) -> _Found | None:
    if split not in source.hub:
        there = ", ".join(source.hub) or "nothing"
        note = ", from which validation is cut" if "train" in source.hub else ""
        tried.append(f"the hub: data={source.name} has {there} there{note}")
        return None
    table = source.hub[split]
    where = f"hub {table.repository}" + (f" ({table.config})" if table.config else "")
    where += f", split {table.split}"
    try:
        rows = hub_rows(table)
    except HubError as error:
        tried.append(f"{where}: {error}")
        return None
    form = Form(source.kind, source.question, f"{source.name}-{split}", drop_unanswered=True)
    problems, unanswered = read_problems(rows, table, form)
    if unanswered:
        log.info("%s: %d rows left out, no answer in their solution", where, unanswered)
    return _Found(_some(problems, where), own_validation="validation" in source.hub)


def _not_found(source: DataConfig, split: str, tried: list[str]) -> str:
    name = source.name
    files = [f"{name}.{split}.jsonl", f"{name}.jsonl"]
    if split == "validation":
        files = [f"{name}.validation.jsonl", f"{name}.train.jsonl, from which validation is cut"]
    ways = [
        f"data.path=FILE ({', '.join(ENDINGS)}) with {_COLUMNS[source.kind]}",
        f"{DATA_DIR}=FOLDER with {' or '.join(files)}, plain, .gz or .parquet",
    ]
    if split in source.hub or (split == "validation" and "train" in source.hub):
        ways.append(
            "network access to the hub, or its cache (HF_HOME), filled where there is network"
        )
    else:
        ways.append("another data=NAME, which has this split on the hub")
    lines = [f"data={name}: found no {split} split.", "Looked here:"]
    lines += [f"  - {entry}" for entry in tried]
    lines += ["Provide it in one of three ways:", *(f"  - {way}" for way in ways)]
    return "\n".join(lines)
