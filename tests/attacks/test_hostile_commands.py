"""Hostile command lines and run folders end in one line, or are passed over; never a traceback."""

import shutil
from pathlib import Path

import pytest

from tests.attacks.command_lines import DATA, FOLDERS, LINES, Command
from tests.integration.small_runs import RL, SMALL, Runs

SHORT = (*RL, "stage.steps=2", "stage.eval_every=0", "stage.eval_before=false")
SECONDS = 60  # the process is ended by a signal after so many
# What a terminal obeys, which no line of ours may hold.
ACTIVE = ("\x1b]", "\x1b[2J", "\x07")


@pytest.fixture(scope="module")
def finished(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert runs.start(folder, *SHORT) == 0, runs.log(folder)
    return folder


def check(command: Command, status: int, text: str, here: Path) -> None:
    told = command.says.replace("{here}", str(here))
    assert status == command.status, text[-3000:]
    assert told in text, text[-3000:]
    assert "Traceback" not in text, text[-3000:]
    assert not [sequence for sequence in ACTIVE if sequence in text]
    errors = [line for line in text.splitlines() if line.startswith("error: ")]
    assert len(errors) == (command.status > 0), text[-3000:]


@pytest.mark.parametrize("command", [*LINES, *DATA], ids=lambda command: command.attack)
def test_a_hostile_command_line_ends_in_one_line(
    runs: Runs, tmp_path: Path, command: Command
) -> None:
    here, log = tmp_path / "here", tmp_path / "log"
    here.mkdir()
    command.spoil(here)
    given = [argument.replace("{here}", str(here)) for argument in command.args.split(" ")]
    own = [f"model.path={runs.model}", f"hydra.run.dir={tmp_path / 'run'}"]
    status = runs.command(log, [*SMALL, *own, *given], seconds=SECONDS, cwd=str(here))
    check(command, status, log.read_text(errors="replace"), here)
    assert not (here / "ran").exists()


@pytest.mark.parametrize("command", FOLDERS, ids=lambda command: command.attack)
def test_a_hostile_run_folder_ends_in_one_line_or_is_passed_over(
    runs: Runs, tmp_path: Path, finished: Path, command: Command
) -> None:
    run, log = tmp_path / "run", tmp_path / "log"
    shutil.copytree(finished, run, symlinks=True)
    command.spoil(run)
    own = [*SHORT, f"model.path={runs.model}", f"hydra.run.dir={run}"]
    places = {"{run}": str(run), "{here}": str(tmp_path), "{again}": "\n".join(own)}
    text = command.args
    for name, place in places.items():
        text = text.replace(name, place)
    given = text.split()
    status = runs.command(log, given or own, seconds=SECONDS, cwd=str(tmp_path))
    check(command, status, log.read_text(errors="replace"), tmp_path)
    assert not (tmp_path / "ran").exists(), "a file of the folder was obeyed"
