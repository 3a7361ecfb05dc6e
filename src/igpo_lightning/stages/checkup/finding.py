"""What a check is given, and what it says."""

import importlib.metadata
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from igpo_lightning.settings import Settings
from igpo_lightning.stages.checkup.forked import Forks

OK, WARNING, FAILED, SKIPPED = "ok", "warning", "failed", "skipped"


@dataclass(frozen=True)
class Finding:
    """What a check says.

    Attributes:
        verdict: "ok" | "warning" | "failed" | "skipped".
        said: What was found; of a skipped check, why.
        fix: What to do; empty where nothing is to be done.
        numbers: For doctor.json.
        output: Of a command that failed, its end, for doctor.json.
    """

    verdict: str
    said: str
    fix: str = ""
    numbers: dict[str, float] = field(default_factory=dict)
    output: str = ""


def installed(package: str) -> str | None:
    """Version of a package; None where there is none."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def connect(host: str, port: int, seconds: float) -> None:
    """Open a connection and close it.

    Raises:
        OSError: Nobody answers in time.
    """
    socket.create_connection((host, port), timeout=seconds).close()


def finish(processes: Sequence[Sequence[str]], seconds: float) -> list[tuple[int, str]]:
    """Exit status and output of processes that run side by side; those that hang are killed."""
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for command in processes
    ]
    done = []
    for process in running:
        try:
            output, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            for other in running:
                other.kill()
            output, _ = process.communicate()
            output += f"\nno end after {seconds:g} s"
        done.append((process.returncode, output))
    return done


Launch = Callable[[Sequence[str], int, float], list[tuple[int, str]]]


@dataclass(frozen=True)
class Site:
    """The machine that is looked at. A test hands in what its own machine does not have.

    Attributes:
        config: The command line's; its model and trainer are what the user wants to run.
        device: Where numerics and speed are looked at.
        gpus: How many there are.
        folder: Of this stage's run.
        version: Of a package, None where there is none.
        connect: Opens a connection to a host and port within some seconds.
        finish: Runs processes side by side.
        launch: Runs a command line of this package in so many ranks, for so many seconds at most.
        python: The interpreter.
    """

    config: Settings
    device: torch.device
    gpus: int
    folder: Path
    version: Callable[[str], str | None] = installed
    connect: Callable[[str, int, float], None] = connect
    finish: Callable[[Sequence[Sequence[str]], float], list[tuple[int, str]]] = finish
    launch: Launch = field(default_factory=Forks)
    python: str = sys.executable

    @property
    def on_gpu(self) -> bool:
        """Whether the checks run on a GPU."""
        return self.device.type == "cuda"


Check = Callable[[Site], Finding]
