"""Hostile command lines and run folders: what is done, how the command ends, and what it says."""

import gzip
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

Spoil = Callable[[Path], object]


@dataclass(frozen=True)
class Command:
    """One command on hostile ground.

    Attributes:
        attack: In words.
        args: Of the command line; {here} is a folder of the test's own, {run} its run folder,
            {again} the command that made it.
        says: A part of what it prints.
        status: Its exit status: 2 is the user's mistake, 1 the world's, 0 none.
        spoil: Prepares the folder {here}.
        on_run: {run} is a finished run.
    """

    attack: str
    args: str
    says: str
    status: int = 2
    spoil: Spoil = field(default=lambda here: None)
    on_run: bool = False


def text(name: str, content: str | bytes) -> Spoil:
    """A file of that content."""

    def spoil(here: Path) -> None:
        file = here / name
        file.parent.mkdir(parents=True, exist_ok=True)
        remove(file)
        file.write_bytes(content.encode() if isinstance(content, str) else content)

    return spoil


def remove(file: Path) -> None:
    """Whatever stands there."""
    if file.is_dir() and not file.is_symlink():
        shutil.rmtree(file)
    else:
        file.unlink(missing_ok=True)


def folder(name: str) -> Spoil:
    """A folder in the place of a file."""

    def spoil(here: Path) -> None:
        remove(here / name)
        (here / name).mkdir(parents=True)

    return spoil


def link(name: str, target: str) -> Spoil:
    """A link in the place of a file."""

    def spoil(here: Path) -> None:
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        remove(here / name)
        (here / name).symlink_to(target)

    return spoil


def pipe(name: str) -> Spoil:
    """A named pipe that nobody writes to."""
    return lambda here: os.mkfifo(here / name)


def _piped(name: str) -> Spoil:
    def spoil(here: Path) -> None:
        remove(here / name)
        os.mkfifo(here / name)

    return spoil


def rows(*lines: object) -> Spoil:
    """Problems, one a line; a text stands as it is."""
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    return text("p.jsonl", "".join(f"{line}\n" for line in texts))


ROW = {"id": "a", "question": "1+1", "solution": "1+1=2", "answer": "2"}
EVAL = "stage=eval data=jsonl data.path={here}/p.jsonl eval.split=test"
NEW = "stage=eval data=arithmetic"
YAML_BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{b}: &{b} [*{a},*{a},*{a},*{a},*{a},*{a},*{a},*{a},*{a}]\n"
    for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)

LINES = [
    Command("a stage that is none", "stage=dance", "stage"),
    Command("a key that is none", "stage.stepz=3", "did you mean stage.steps"),
    Command("a group that is null", "sampler=null", "sampler=null"),
    Command("a key that nobody reads", "+seeed=1", "nothing reads seeed"),
    Command("a key of another stage", "stage=eval stage.group_size=2", "it is one of stage=rl"),
    Command("an override without a value", "stage.steps", "stage.steps"),
    Command("a bracket that never closes", "data.levels=[1,2", "data.levels=[1,2: cannot be read"),
    Command("a value that refers to itself", "seed=${seed}", "seed"),
    Command("a value that refers to nothing", "seed=${nothing.here}", "nothing"),
    Command("a seed of 2^64", "seed=18446744073709551616", "seed"),
    Command("a group of 10^30", "stage.group_size=" + "1" * 30, "stage.group_size=1"),
    Command("10^30 steps", "stage.steps=1000000000000000000000000000000", "stage.steps"),
    Command("no step", "stage.steps=0", "stage.steps=0"),
    Command("a group of one", "stage.group_size=1", "stage.group_size=1"),
    Command("a run folder whose parent is a file", "hydra.run.dir=/dev/null/run", "/dev/null", 1),
    Command("a run folder in /proc", "hydra.run.dir=/proc/run", "/proc/run", 1),
    Command("a name of 300 characters", "hydra.run.dir={here}/" + "a" * 300, "cannot write", 1),
    Command("a model's folder that is none", f"{NEW} model.path=/nowhere", "model.path=/nowhere"),
    Command("an empty model path", f"{NEW} model.path=''", "model.path"),
    Command("a device for a model", f"{NEW} model.path=/dev/zero", "model.path=/dev/zero"),
    Command("a file for a model's folder", f"{NEW} model.path=/etc/passwd", "model.path=/etc"),
    Command("a GPU that is not there", f"{NEW} trainer.accelerator=gpu", "trainer.accelerator=gpu"),
    Command("10^5 threads", "trainer.threads=100000", "trainer.threads=100000"),
    Command("10^5 graders", "reward.workers=100000", "reward.workers=100000"),
    Command("an empty name to go on from", "resume=''", "resume=''"),
    Command("a plugin that is not there", "objective.plugin=/nowhere.py", "/nowhere.py"),
    Command("bytes that are no UTF-8", "stage=generate stage.prompt=\udcff", "stage.prompt"),
    Command("a prompt with NUL", "stage=generate stage.prompt='a\x1b]0;b'", "", 0),
    Command("a checkpoint that is a device", "stage=export checkpoint=/dev/zero", "/dev/zero"),
    Command("a checkpoint that is a folder", "stage=export checkpoint={here}", "{here}"),
    Command(
        "a run folder named like markup", f"{NEW} hydra.run.dir='{{here}}/[/red]x'", "[/red]x", 0
    ),
    Command(
        "a run folder that clears", f"{NEW} hydra.run.dir='{{here}}/\x1b[2Jx'", "\u241b[2Jx", 0
    ),
    Command("a report of nothing", "stage=report path={here}", "{here}"),
    Command("a report of a file", "stage=report path=/etc/passwd", "/etc/passwd"),
]

DATA = [
    Command("a data file that is a folder", EVAL, "p.jsonl", 2, folder("p.jsonl")),
    Command("a data file that is a named pipe", EVAL, "p.jsonl", 2, pipe("p.jsonl")),
    Command("a data file that is a device", EVAL, "p.jsonl", 2, link("p.jsonl", "/dev/zero")),
    Command("a data file that links to itself", EVAL, "p.jsonl", 2, link("p.jsonl", "p.jsonl")),
    Command("an empty data file", EVAL, "p.jsonl", 2, text("p.jsonl", "")),
    Command("a data file of blank lines", EVAL, "p.jsonl", 2, text("p.jsonl", "\n \n\n")),
    Command("UTF-16", EVAL, "line 1", 2, text("p.jsonl", json.dumps(ROW).encode("utf-16"))),
    Command("NUL bytes", EVAL, "line 1", 2, text("p.jsonl", b"\0" * 100)),
    Command("a line that is a list", EVAL, "line 2", 2, rows(ROW, [1])),
    Command("a line 10^5 levels deep", EVAL, "line 2", 2, rows(ROW, "[" * 10**5)),
    Command(
        "an answer of 5,000 digits as a number",
        EVAL,
        "line 1",
        2,
        rows('{"id": "a", "question": "q", "answer": ' + "1" * 5000 + "}"),
    ),
    Command(
        "an answer that is NaN",
        EVAL,
        "line 1",
        2,
        rows('{"id": "a", "question": "q", "answer": NaN}'),
    ),
    Command(
        "a key twice in one line",
        EVAL,
        "'question' stands twice",
        2,
        rows('{"id": "a", "question": "1+1", "question": "2+2", "answer": "4"}'),
    ),
    Command("an id that is a list", EVAL, "line 1: id must be", 2, rows(ROW | {"id": [1]})),
    Command(
        "a CSV file with a column twice",
        EVAL.replace("p.jsonl", "p.csv"),
        "two columns are named 'answer'",
        2,
        text("p.csv", "id,question,answer,answer\na,1+1,2,3\n"),
    ),
    Command("a question of null", EVAL, "line 1", 2, rows(ROW | {"question": None})),
    Command("an empty question", EVAL, "line 1", 2, rows(ROW | {"question": " "})),
    Command("an answer that is a list", EVAL, "line 1", 2, rows(ROW | {"answer": [1]})),
    Command("half a surrogate pair", EVAL, "line 1", 2, rows(ROW | {"question": "\ud800"})),
    Command("an id of markup and escapes", EVAL, "", 0, rows(ROW | {"id": "[/red]\x1b[2J"})),
    Command("two problems of one id", EVAL, "a", 2, rows(ROW, ROW | {"question": "2+2"})),
    Command(
        "a torn gzip file",
        EVAL.replace("jsonl eval", "jsonl.gz eval"),
        "p.jsonl.gz",
        2,
        text("p.jsonl.gz", gzip.compress(b"x" * 10**5)[:-9]),
    ),
    Command(
        "a gzip file that is none",
        EVAL.replace("jsonl eval", "jsonl.gz eval"),
        "p.jsonl.gz",
        2,
        text("p.jsonl.gz", b"no gzip"),
    ),
    Command(
        "a gzip file of 10^8 bytes a line",
        EVAL.replace("jsonl eval", "jsonl.gz eval"),
        "line 1",
        2,
        text("p.jsonl.gz", gzip.compress(b"x" * 10**8)),
    ),
    Command(
        "a CSV file with a quote that never closes",
        EVAL.replace("p.jsonl", "p.csv"),
        "p.csv",
        2,
        text("p.csv", 'id,question,answer\na,"1+1,2\n' * 3),
    ),
    Command(
        "a torn Parquet file",
        EVAL.replace("p.jsonl", "p.parquet"),
        "p.parquet",
        2,
        text("p.parquet", b"PAR1" + b"\0" * 50),
    ),
]

FOLDERS = [
    Command("a config.yaml that is a list", "", "config.yaml", 2, text("config.yaml", "[1]"), True),
    Command(
        "a config.yaml that is no YAML", "", "config.yaml", 2, text("config.yaml", "a: ]"), True
    ),
    Command(
        "a config.yaml with a Python object",
        "",
        "config.yaml",
        2,
        text("config.yaml", "a: !!python/object/apply:os.mkdir [ran]"),
        True,
    ),
    Command(
        "a config.yaml of 10^9 nodes", "", "config.yaml", 2, text("config.yaml", YAML_BOMB), True
    ),
    Command("a config.yaml that is a folder", "", "config.yaml", 1, folder("config.yaml"), True),
    Command(
        "a metrics.csv of noise",
        "",
        "already finished",
        0,
        text("metrics.csv", b"\xff\0,\n,,,\n"),
        True,
    ),
    Command(
        "a summary.json that is torn", "", "summary.json", 2, text("summary.json", '{"a'), True
    ),
    Command(
        "a summary.json that is a list", "", "summary.json", 2, text("summary.json", "[]"), True
    ),
    Command("checkpoints is a file", "", "checkpoints", 1, text("checkpoints", "x"), True),
    Command(
        "a checkpoint that links to itself",
        "",
        "step-9.ckpt is damaged",
        0,
        link("checkpoints/step-9.ckpt", "step-9.ckpt"),
        True,
    ),
    Command(
        "a checkpoint that is a device",
        "",
        "step-9.ckpt is damaged",
        0,
        link("checkpoints/step-9.ckpt", "/dev/zero"),
        True,
    ),
    Command(
        "a checkpoint that is a named pipe",
        "",
        "step-9.ckpt is damaged",
        0,
        pipe("checkpoints/step-9.ckpt"),
        True,
    ),
    Command(
        "an empty folder for a checkpoint",
        "",
        "step-9.ckpt is damaged",
        0,
        folder("checkpoints/step-9.ckpt"),
        True,
    ),
    Command("a run.lock that is a folder", "", "run.lock", 1, folder("run.lock"), True),
    Command(
        "a run.lock that leads elsewhere",
        "",
        "run.lock is a link",
        1,
        link("run.lock", "config.yaml"),
        True,
    ),
    Command("samples that are a named pipe", "", "samples.jsonl", 2, _piped("samples.jsonl"), True),
    Command("a config.yaml that is a named pipe", "", "yaml is no", 2, _piped("config.yaml"), True),
    Command(
        "a report of metrics that are a named pipe",
        "stage=report path={run} hydra.run.dir={here}/r",
        "metrics.csv is no file",
        2,
        _piped("metrics.csv"),
        True,
    ),
    Command(
        "fewer steps than the run has made",
        "{again} stage.steps=1",
        "stage.steps=1: ",
        2,
        on_run=True,
    ),
    Command("a run.lock of noise", "", "already finished", 0, text("run.lock", b"\xff\0["), True),
    Command(
        "a run.lock of a process that is a text",
        "",
        "already finished",
        0,
        text("run.lock", '{"host": [], "pid": "x", "beat": {}}'),
        True,
    ),
    Command("a run.lock that is a named pipe", "", "run.lock", 1, pipe("run.lock"), True),
    Command("a log that is a folder", "", "cli.log", 1, folder("cli.log"), True),
    Command(
        "a report of noise",
        "stage=report path={run} hydra.run.dir={here}/r",
        "metrics.csv",
        2,
        text("metrics.csv", b"\xff\0,\n,,,\n"),
        True,
    ),
    Command(
        "a report of a config.yaml that is a list",
        "stage=report path={run} hydra.run.dir={here}/r",
        "config.yaml",
        2,
        text("config.yaml", "[1]"),
        True,
    ),
    Command(
        "a report of a config.yaml of 10^9 nodes",
        "stage=report path={run} hydra.run.dir={here}/r",
        "it holds an alias",
        2,
        text("config.yaml", YAML_BOMB),
        True,
    ),
    Command(
        "a report of torn samples",
        "stage=report path={run} hydra.run.dir={here}/r",
        "",
        0,
        text("samples.jsonl", b'{"step": 0}\n[1]\n{"st'),
        True,
    ),
]
