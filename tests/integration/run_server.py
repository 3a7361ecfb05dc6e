"""Runs the command line in forked processes, so that a run need not import torch again.

Reads one JSON object a line: `args` of the command line, `log` for what it prints, `ranks`, the
number of processes (started as torchrun does), `faults`: what happens at the n-th call of a
function, and if need be `cwd`, `env` (null takes a variable away), `errors` (the file for what is
printed as errors), `grades` (true: as users do), `pictures` (true: curves are drawn; as `grades`
unless it is given, since drawing takes a third of a short run), `right_ranks` (whose answers are
all right, where the others' are all wrong), and `grace` (seconds that a step may go on after a
signal). Answers each with the exit status of every rank (negative: a signal). `program` is the
module whose main() is called, the command line's own unless it is given.
"""

import gc
import importlib
import json
import os
import signal
import socket
import sys
import time
import zlib
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import lightning  # noqa: F401
import matplotlib.pyplot as plt  # noqa: F401
import peft.tuners.lora  # noqa: F401
import torch.utils.tensorboard  # noqa: F401
from hydra._internal.hydra import Hydra
from hydra.core.plugins import Plugins
from lightning.pytorch.utilities import rank_zero_only

import igpo_lightning.cli  # noqa: F401
from igpo_lightning.config import register_schemas
from igpo_lightning.rewards import Verdict
from igpo_lightning.runs.leaving import Leave
from igpo_lightning.stages import build, eval, rl, sft  # noqa: F401


class CoinPool:
    """Grades by a checksum of the text: groups of a random policy are mixed, and learn."""

    retried = 0

    def __init__(self, *_: Any) -> None:
        pass

    def grade(self, items: list[tuple[str, str]]) -> list[Verdict]:
        right = [zlib.crc32(text.encode()) % 3 == 0 for _, text in items]
        return [Verdict(r, None if r else "wrong") for r in right]

    def submit(self, items: list[tuple[str, str]]) -> Future[list[Verdict]]:
        done: Future[list[Verdict]] = Future()
        done.set_result(self.grade(items))
        return done

    def __enter__(self) -> "CoinPool":
        return self

    def __exit__(self, *_: object) -> None:
        pass


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def _interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def _user_signal() -> None:
    os.kill(os.getpid(), signal.SIGUSR1)


def _pause() -> None:
    time.sleep(2.0)


def _fail_on_full_disk() -> None:
    import errno

    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _remove_folder() -> None:
    import shutil

    shutil.rmtree(os.environ["RUN_FOLDER"])


def _out_of_memory() -> None:
    import torch

    raise torch.OutOfMemoryError("CUDA out of memory.")


ACTIONS: dict[str, Callable[[], None]] = {
    "kill": _kill,
    "terminate": _terminate,
    "usr1": _user_signal,
    "interrupt": _interrupt,
    "pause": _pause,
    "remove": _remove_folder,
    "disk_full": _fail_on_full_disk,
    "out_of_memory": _out_of_memory,
}


def inject(target: str, call: int, action: str) -> None:
    """Do something before the n-th call (from 1; 0: every) of `package.module:Class.function`."""
    path, _, names = target.partition(":")
    owner: Any = importlib.import_module(path)
    *parents, name = names.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    original, calls = getattr(owner, name), 0

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        due = call in (0, calls)
        if due and action != "nan":
            ACTIONS[action]()
        result = original(*args, **kwargs)
        if due and action == "nan":  # of a loss with its statistics, the loss
            loss, statistics = result
            return loss * float("nan"), statistics
        return result

    setattr(owner, name, wrapped)


def fix_verdicts(correct: bool) -> None:
    """Let every text of this process be right, or none."""
    verdict = Verdict(correct, None if correct else "wrong")
    CoinPool.grade = lambda _, items: [verdict] * len(items)  # type: ignore[method-assign]


def run(request: dict[str, Any], rank: int, port: int) -> None:
    """In the forked process: never returns."""
    signal.alarm(request["seconds"])  # ranks that wait for each other in vain
    if request["ranks"] > 1:
        os.environ |= {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(request["ranks"]),
            "LOCAL_WORLD_SIZE": str(request["ranks"]),
            "GROUP_RANK": "0",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "TORCHELASTIC_RUN_ID": "test",
        }
    for name, value in request.get("env", {}).items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    os.chdir(request.get("cwd", "."))
    with open(request["log"], "a") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    if "errors" in request:
        with open(request["errors"], "a") as errors:
            os.dup2(errors.fileno(), 2)
    rank_zero_only.rank = rank  # torchrun's processes read it when they import Lightning
    if not request.get("grades"):
        build.GradingPool = CoinPool  # type: ignore[misc]
    if not request.get("pictures", request.get("grades")):
        rl.plot_rl_curves = sft.plot_sft_curves = lambda folder: None
    Leave.GRACE = request.get("grace", Leave.GRACE)
    if "right_ranks" in request:
        fix_verdicts(rank in request["right_ranks"])
    for fault in request["faults"]:
        if fault.pop("rank", rank) == rank:
            inject(**fault)
    if request.get("limit_file_size"):
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (request["limit_file_size"],) * 2)
    several = any(part == "-m" or "sweep" in part or "multirun" in part for part in request["args"])
    if not several:
        # Hydra composes a run twice, first to learn its mode, which only a sweep's file sets.
        Hydra.get_mode = lambda *_, **__: None  # type: ignore[method-assign]
    sys.argv = ["igpo-lightning", *request["args"]]
    status = 0
    try:
        importlib.import_module(request.get("program", "igpo_lightning.cli")).main()
    except SystemExit as end:
        status = int(end.code or 0)
    except BaseException:
        import traceback

        traceback.print_exc()
        status = 99
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def serve() -> None:
    """Answer until the input ends."""
    Plugins.instance()  # Hydra looks for plugins, and the schemas are made, once for all runs
    register_schemas()
    # A collection in a forked process would visit, and so copy, all that was imported.
    gc.collect()
    gc.freeze()
    for line in sys.stdin:
        request = json.loads(line)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        children = []
        for rank in range(request["ranks"]):
            child = os.fork()
            if child == 0:
                run(request, rank, port)
            children.append(child)
        statuses = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        print(json.dumps(statuses), flush=True)


if __name__ == "__main__":
    serve()
