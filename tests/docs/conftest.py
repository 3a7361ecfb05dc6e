"""A desk to try the docs' commands on: a folder that looks like the checkout, and toy data."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.docs.commands import ROOT
from tests.integration.forked import CommandServer

SMALL_RUN = (
    *("stage.steps=1", "stage.prompts_per_step=2", "stage.group_size=2", "stage.inner_updates=1"),
    *("data.train_size=8", "data.eval_size=8", "eval.limit=4", "trainer.threads=1"),
    "reward.workers=1",  # a grader takes seconds to start
)


@dataclass
class Desk:
    """Runs the command line in forked processes of one server, in a folder like the checkout."""

    folder: Path
    server: CommandServer
    environment: dict[str, str]

    def run_anew(self, *args: str) -> tuple[int, str]:
        """As `run`, in a process of its own, from which Lightning starts the other ranks."""
        command = [sys.executable, "-m", "igpo_lightning", *args]
        with (self.folder / "log").open("w") as log:
            done = subprocess.run(
                command,
                cwd=self.folder,
                env={**os.environ, **self.environment},
                stdout=log,
                stderr=subprocess.STDOUT,
                timeout=280,
                check=False,
            )
        return done.returncode, (self.folder / "log").read_text()

    def run(self, *args: str) -> tuple[int, str]:
        """The exit status of `python -m igpo_lightning ARGS`, and what it printed."""
        log = self.folder / "log"
        log.unlink(missing_ok=True)
        place = {"cwd": str(self.folder), "env": {**self.environment, "COLUMNS": "140"}}
        status = self.server.run(args, log, grades=True, seconds=280, **place)
        return status, log.read_text()


def toy_rows(name: str) -> Iterator[str]:
    """Problems in the common form, with traces, and in no other split or source."""
    for i in range(12):
        row = {"id": f"{name}-{i}", "question": f"What is {i} + 3 in {name}?", "answer": str(i + 3)}
        yield json.dumps(row | {"solution": f"{i}+3=\\boxed{{{i + 3}}}"})


def toy_puzzles() -> dict[str, list[str]]:
    """Test files of the puzzles, whose training problems are made on the spot."""
    sums = [{"id": f"c{i}", "numbers": [i, i + 1, 1], "target": 2 * i + 2} for i in range(1, 9)]
    grid = "1234341221434321"
    blanks = [{"id": f"s{i}", "question": f"{grid[:i]}0{grid[i + 1 :]}"} for i in range(8)]
    return {
        "countdown": [json.dumps(row | {"answer": str(row["target"])}) for row in sums],
        "sudoku": [json.dumps(row | {"answer": grid}) for row in blanks],
    }


@pytest.fixture(scope="session")
def desk(command_server: CommandServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """Holds what the pages name: a finished run as RUN, data of every source in FOLDER."""
    folder = tmp_path_factory.mktemp("desk")
    for entry in ROOT.iterdir():
        if entry.name not in ("runs", ".git", ".venv", "docs"):
            (folder / entry.name).symlink_to(entry)
    shutil.copytree(ROOT / "docs", folder / "docs")  # a command adds to the scoreboard
    data = folder / "FOLDER"
    data.mkdir()
    puzzles = toy_puzzles()
    for name, rows in puzzles.items():
        (data / f"{name}.test.jsonl").write_text("\n".join(rows))
    for name in {file.stem for file in (ROOT / "conf" / "data").glob("*.yaml")} - set(puzzles):
        for split in ("train", "test"):
            (data / f"{name}.{split}.jsonl").write_text("\n".join(toy_rows(f"{name}-{split}")))
    (folder / "FILE").write_text("\n".join(toy_rows("own")))
    environment = {
        **{"IGPO_DATA_DIR": str(data), "HF_HUB_OFFLINE": "1", "OPENAI_MODEL": "a-model"},
        **{"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"},
    }
    desk = Desk(folder, command_server, environment)
    status, log = desk.run(*SMALL_RUN, "hydra.run.dir=runs/RUN")
    assert status == 0, log
    (folder / "RUN").symlink_to(folder / "runs" / "RUN")
    (folder / "runs" / "rl_arithmetic").mkdir(exist_ok=True)
    (folder / "runs" / "rl_arithmetic" / "DATE").symlink_to(folder / "runs" / "RUN")
    yield desk
    shutil.rmtree(folder / "runs")
