"""Command lines in forked processes: torch, Lightning and transformers are imported once for all.

`python -m igpo_lightning.stages.checkup.forked` reads one JSON object a line: the arguments of the
command line, the number of ranks (started as torchrun does) and the seconds after which they are
ended. It answers each with the exit status and the output of every rank. Nothing computes before
the fork, so that no thread and no GPU is shared.
"""

import contextlib
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import IO

MODULE = "igpo_lightning"
IMPORTED = ("lightning.pytorch", "peft.tuners.lora", f"{MODULE}.stages.rl")


class Forks:
    """Runs command lines of this package; the process that forks them starts at the first one."""

    def __init__(self, python: str = sys.executable) -> None:
        self.python = python
        self.server: subprocess.Popen[str] | None = None

    def __call__(
        self, arguments: Sequence[str], ranks: int, seconds: float
    ) -> list[tuple[int, str]]:
        """Exit status and output of every rank.

        Raises:
            RuntimeError: The process that forks has ended.
        """
        if self.server is None:
            self.server = subprocess.Popen(
                [self.python, "-m", __name__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        server = self.server
        assert server.stdin is not None
        assert server.stdout is not None
        assert server.stderr is not None
        asked = {"arguments": list(arguments), "ranks": ranks, "seconds": seconds}
        try:
            server.stdin.write(json.dumps(asked) + "\n")
            server.stdin.flush()
            answer = server.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            said = server.stderr.read().strip().splitlines() or ["no message"]
            raise RuntimeError(f"no run can be started: {said[-1]}")
        return [(status, output) for status, output in json.loads(answer)]


def become(arguments: Sequence[str], rank: int, ranks: int, port: int, log: IO[bytes]) -> int:
    """In the forked process: run the command line; returns its exit status."""
    from lightning.pytorch.utilities import rank_zero_only

    os.dup2(log.fileno(), 1)
    os.dup2(log.fileno(), 2)
    if ranks > 1:
        os.environ |= {
            **{"RANK": str(rank), "LOCAL_RANK": str(rank), "GROUP_RANK": "0"},
            **{"WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks)},
            **{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)},
            "TORCHELASTIC_RUN_ID": "doctor",
        }
        # Else read when Lightning is imported, which is over.
        rank_zero_only.rank = rank  # type: ignore[attr-defined]
    sys.argv = [MODULE, *arguments]
    try:
        runpy.run_module(MODULE, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        return int(end.code or 0)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        return 1
    return 0


def fork(arguments: Sequence[str], ranks: int, seconds: float) -> list[tuple[int, str]]:
    """Run a command line in so many processes, and wait for them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with contextlib.ExitStack() as files:
        logs = [files.enter_context(tempfile.TemporaryFile()) for _ in range(ranks)]
        children = []
        for rank, log in enumerate(logs):
            child = os.fork()
            if child == 0:
                signal.alarm(max(1, round(seconds)))  # ends ranks that wait in vain
                status = become(arguments, rank, ranks, port, log)
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status)
            children.append(child)
        return [_ended(child, log, seconds) for child, log in zip(children, logs, strict=True)]


def _ended(child: int, log: IO[bytes], seconds: float) -> tuple[int, str]:
    """Exit status and output of a process, once it has ended."""
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    log.seek(0)
    output = log.read().decode(errors="replace")
    if status == -signal.SIGALRM:
        output += f"\nno end after {seconds:g} s"
    return status, output


def serve() -> None:
    """Answer until the input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what an import prints is no answer
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")  # asking must not open the GPU
    for name in IMPORTED:
        importlib.import_module(name)
    for line in sys.stdin:
        answers.write(json.dumps(fork(**json.loads(line))) + "\n")
        answers.flush()


if __name__ == "__main__":
    serve()
