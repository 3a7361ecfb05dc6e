"""The other end of `GradingPool`: one process that grades what it is sent, one item at a time.

Started as a fresh interpreter, never forked: the trainer's threads, its `__main__` and torch stay
out of it.
"""

import ctypes
import os
import pickle
import resource
import signal
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection

Grader = Callable[[str, str], bool]
# The pool ends an item that waits after so many times its limit.
WALL = 2.0
# What the timer of processor time sends.
COMPUTED = signal.SIGPROF
_PR_SET_PDEATHSIG = 1  # prctl(2)


def serve(descriptor: int, parent: int) -> None:
    """Answer (gold, prediction, seconds) with a bool until the pool of process `parent` goes away.

    The first message is (pickled grader or None, bytes of memory). Each item runs under a kernel
    timer whose default action ends the process: this also stops a computation that never returns
    to the interpreter, and a worker whose pool has died. Seconds of computation count, so that a
    verdict does not change with the machine's load; the pool ends what waits.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the trainer's to handle
    _die_with(parent)
    signal.signal(COMPUTED, signal.SIG_DFL)
    connection = Connection(descriptor)
    try:
        pickled, memory = connection.recv()
        grader = _load(pickled)
        _limit(memory)
        connection.send(True)
        _silence()
        while True:
            gold, prediction, seconds = connection.recv()
            signal.setitimer(signal.ITIMER_PROF, seconds)
            result = bool(grader(gold, prediction))
            signal.setitimer(signal.ITIMER_PROF, 0)
            connection.send(result)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


def _die_with(parent: int) -> None:
    """End with the thread that started this process, also while stopped (SIGSTOP) or computing.

    Only Linux can do so; elsewhere the closed pipe ends a worker that reads, the timers one that
    computes.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the call
        os._exit(1)


def _load(pickled: bytes | None) -> Grader:
    if pickled is not None:
        grader: Grader = pickle.loads(pickled)
        return grader
    from igpo_lightning.rewards.grading import is_equivalent

    # The first use imports sympy and builds the grammar's tables; here no item pays for it.
    for gold, answer in (("(x+1)^2", "x^2+2x+1"), (r"[0,\pi)", r"[0,2\pi)"), ("1,x", "x,2")):
        is_equivalent(gold, answer)
    return is_equivalent


def _limit(memory: int) -> None:
    for kind, limit in ((resource.RLIMIT_AS, memory), (resource.RLIMIT_CORE, 0)):
        hard = resource.getrlimit(kind)[1]
        limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(kind, (limit, hard))


def _silence() -> None:
    """Parsers print their complaints about model text; a traceback of a crash is told as such."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
