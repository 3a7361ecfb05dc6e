"""The other end of `GradingPool`: one process that grades what it is sent, one item at a time.

Started as a fresh interpreter, never forked: the trainer's threads, its `__main__` and torch stay
out of it.
"""

import os
import pickle
import resource
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection

Grader = Callable[[str, str], bool]


def serve(descriptor: int) -> None:
    """Answer (gold, prediction, seconds) with a bool until the pool goes away.

    The first message is (pickled grader or None, bytes of memory). Each item runs under a kernel
    timer whose default action ends the process: this also stops a computation that never returns
    to the interpreter, and a worker whose pool has died.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the trainer's to handle
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    connection = Connection(descriptor)
    try:
        pickled, memory = connection.recv()
        grader = _load(pickled)
        _limit(memory)
        connection.send(True)
        _silence()
        while True:
            gold, prediction, seconds = connection.recv()
            signal.setitimer(signal.ITIMER_REAL, seconds)
            result = bool(grader(gold, prediction))
            signal.setitimer(signal.ITIMER_REAL, 0)
            connection.send(result)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


def _load(pickled: bytes | None) -> Grader:
    if pickled is not None:
        grader: Grader = pickle.loads(pickled)
        return grader
    from igpo_lightning.rewards.grading import is_equivalent

    # The first parse builds the grammar's tables; here it does not count against an item.
    is_equivalent("\\frac{1}{2}", "\\frac{2}{4}")
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
