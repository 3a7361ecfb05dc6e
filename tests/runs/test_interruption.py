"""The command that resumes a run, and signals where no step is worth waiting for."""

import os
import shlex
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from igpo_lightning.runs.interruption import (
    SIGNALS,
    InterruptedRunError,
    obey_signals,
    resume_command,
)


@pytest.fixture
def _own_signals() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in SIGNALS}
    obey_signals()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def swallowing(call: Callable[[], None]) -> None:
    """As libraries do around what may fail."""
    with suppress(Exception):
        call()


@pytest.mark.usefixtures("_own_signals")
@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_the_run_at_once(number: int) -> None:
    with pytest.raises(InterruptedRunError, match=signal.Signals(number).name):
        swallowing(lambda: os.kill(os.getpid(), number))


@pytest.mark.parametrize("folder", ["runs/rl/2026-01-01", "a b/[x]", "it's", "a=b,c", "$HOME/{x}"])
def test_the_command_names_the_folder_that_the_start_chose(folder: str) -> None:
    command = resume_command(["stage.steps=2", "prompt.user='a b'"], "hydra.run.dir", folder)
    *start, steps, user, given = shlex.split(command)
    assert start == ["python", "-m", "igpo_lightning"]
    assert (steps, user) == ("stage.steps=2", "prompt.user='a b'")
    (override,) = OverridesParser.create().parse_overrides([given])
    assert override.key_or_group == "hydra.run.dir"
    value = override.value()
    assert getattr(value, "text", value) == folder


def test_a_folder_that_was_given_is_not_given_twice() -> None:
    assert resume_command(["hydra.run.dir=mine"], "hydra.run.dir", "/there/mine") == (
        "python -m igpo_lightning hydra.run.dir=mine"
    )
