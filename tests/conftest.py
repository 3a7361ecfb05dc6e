"""Fixtures that every room's tests share."""

import gc
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.integration.forked import CommandServer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from tests.integration.small_runs import Runs

Command = Callable[..., subprocess.CompletedProcess[str]]

# One thread a process, here and in the processes that tests start: sums keep one order, and the
# tests that run beside each other do not fight for cores. Set before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

SHARED = Path(__file__).resolve().parents[1].parent / "shared"


def _shared(name: str) -> Path:
    folder = SHARED / name
    if not folder.is_dir():
        pytest.skip(f"needs {folder}")
    return folder


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real problems that lives beside the repository, where there is one."""
    return _shared("data")


@pytest.fixture(scope="session")
def shared_golden() -> Path:
    """The folder of reference values that lives beside the repository, where there is one."""
    return _shared("golden")


@pytest.fixture(scope="session")
def tokenizer() -> "PreTrainedTokenizerFast":
    """A small real one: byte-level, one token a digit, with the embedded model's chat template."""
    from igpo_lightning.models.tokenizer import train_tokenizer

    return train_tokenizer(["What is 2+3? It is \\boxed{5}. Put the answer here."] * 4, 300)


@pytest.fixture(scope="session")
def command_server() -> Iterator[CommandServer]:
    """Starts command lines in forked processes: torch is imported once for all of them."""
    with CommandServer() as server:
        yield server


@pytest.fixture(scope="session")
def runs(command_server: CommandServer, tmp_path_factory: pytest.TempPathFactory) -> "Runs":
    """Whole runs of a small random model, with faults at chosen places."""
    from tests.integration.small_runs import Runs, save_tiny

    return Runs(command_server, save_tiny(tmp_path_factory.mktemp("model")))


@pytest.fixture
def igpo(command_server: CommandServer, tmp_path: Path) -> Command:
    """`igpo("stage=eval", ...)`: the command line in an empty folder, and what it printed."""

    def run(
        *overrides: str, code: int = 0, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        printed, errors = tmp_path / "printed.log", tmp_path / "errors.log"
        printed.unlink(missing_ok=True)
        errors.unlink(missing_ok=True)
        place = {"cwd": str(tmp_path), "env": {"COLUMNS": "140", **(env or {})}, "grades": True}
        status = command_server.run(overrides, printed, errors=str(errors), **place)
        out, err = printed.read_text(), errors.read_text()
        assert status == code, f"{out[-3000:]}\n{err[-6000:]}"
        return subprocess.CompletedProcess(overrides, status, out, err)

    return run


def pytest_collection_finish() -> None:
    """Keep what was imported out of the collections to come, which runs end with."""
    gc.collect()
    gc.freeze()


_skipped_beside_data: list[str] = []


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note tests that were skipped although the folder they need is there."""
    if report.skipped and "shared" in report.keywords and SHARED.is_dir():
        _skipped_beside_data.append(report.nodeid)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Such a skip is a failure: it would hide that real data no longer flows."""
    if _skipped_beside_data and not hasattr(session.config, "workerinput"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which."""
    for name in _skipped_beside_data:
        terminalreporter.write_line(f"skipped although {SHARED} is there: {name}", red=True)
