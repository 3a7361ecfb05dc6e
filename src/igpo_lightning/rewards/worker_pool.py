"""Grades many answers in bounded time, whatever text a model wrote."""

import contextlib
import os
import pickle
import subprocess
import sys
import time
from collections import OrderedDict, deque
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path

from igpo_lightning.rewards.extraction import STRATEGIES, STRATEGY_ORDER, extract_answer
from igpo_lightning.rewards.grading import (
    MAX_ANSWER_LENGTH,
    answer_of,
    are_other_numbers,
    is_same_spelling,
)
from igpo_lightning.rewards.normalization import comparison_key
from igpo_lightning.rewards.numeric import value_of
from igpo_lightning.rewards.worker import COMPUTED, WALL, Grader

_MEMORY = 2 * 1024**3  # bytes of address space a worker may use
_CACHE_SIZE = 100_000  # verdicts kept, oldest forgotten first
_START_LIMIT = 120.0  # seconds for a worker to import math-verify on a busy machine
_GRACE = 0.5  # seconds beyond an item's limit before the pool kills the worker itself
_COMPUTES = 0.05  # of an item's limit: a worker that used less until its deadline was waiting
_STARTS = 5  # workers in a row that may end while they start: one was killed, or none can start
_START = (
    "import sys; sys.path[:] = sys.argv[2:]; "
    "from igpo_lightning.rewards.worker import serve; serve(int(sys.argv[1]), {parent})"
)


@dataclass(frozen=True)
class Verdict:
    """How one answer was graded.

    Attributes:
        correct: Whether the text gives the gold answer.
        reason: None where correct; else "wrong", "no_answer" (the text has none), "too_long" (its
            answer is over `MAX_ANSWER_LENGTH` characters), "timeout" (grading computed longer
            than the limit, or waited twice as long, in two workers) or "crash" (two workers in a
            row raised, ran out of memory or were killed).
    """

    correct: bool
    reason: str | None = None


_RIGHT = Verdict(True)
_WRONG = Verdict(False, "wrong")
_Key = tuple[str, str]


class _Worker:
    """One grading process and what it is busy with."""

    def __init__(self, grader: bytes | None) -> None:
        self.connection, theirs = Pipe()
        # Not multiprocessing: its children import the parent's __main__, and torch with it.
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-c", _START.format(parent=os.getpid())),
                *(str(theirs.fileno()), *sys.path),
            ],
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
        )
        theirs.close()
        self.key: _Key | None = None
        self.ready = False
        self._seconds, self._used = 0.0, 0.0
        self.deadline = time.monotonic() + _START_LIMIT
        with contextlib.suppress(OSError):  # killed at once; the closed pipe tells it
            self.connection.send((grader, _MEMORY))

    @property
    def dead(self) -> bool:
        return self.process.poll() is not None

    def assign(self, key: _Key, seconds: float) -> None:
        self.key = key
        self._seconds, self._used = seconds, _processor_time(self.process.pid)
        self.deadline = time.monotonic() + seconds * WALL + _GRACE
        self.connection.send((*key, seconds))

    def is_late(self) -> bool:
        """Whether the deadline has passed for a worker that waits; one that computes goes on.

        A worker that computes on a busy machine ends by its limit of processor time: the same
        item then gets the same verdict under any load.
        """
        if time.monotonic() <= self.deadline:
            return False
        used = _processor_time(self.process.pid)
        if self.key is None or used - self._used < _COMPUTES * self._seconds:
            return True
        self._used = used
        self.deadline = time.monotonic() + self._seconds * WALL
        return False

    def stop(self) -> int:
        """End the process; gives its exit status (minus the signal that ended it)."""
        self.connection.close()
        if self.process.poll() is None:
            self.process.kill()
        return self.process.wait()


def has_answer(gold: str, text: str, strategies: Sequence[str], exact: bool) -> bool:
    """Whether a text may answer: it states something, or is a formula for a gold that is none.

    A sum that comes to a number does not state that number; a puzzle's own grader judges sums.
    """
    if extract_answer(text, strategies) is not None:
        return True
    is_number = exact and value_of(comparison_key(answer_of(gold))) is not None
    return "number" in strategies and not is_number and any(map(str.isdecimal, text))


def _processor_time(pid: int) -> float:
    """Seconds that a process has computed so far; 0 where the system does not tell."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0.0
    user, system = stat.rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


class GradingPool:
    """Worker processes that compare answers, each item under a time and a memory limit.

    Use as a context manager. Workers start with the first item that needs one and end with the
    pool, or when the process that made it dies. Exact matches and repeated pairs are answered
    without a worker. Calls from several threads are served one after the other.

    A verdict says something about the text. Where a worker is killed, crashes, or waits too long,
    the item is graded a second time by another worker; `retried` counts these, and no such
    verdict is kept. Too much computation is the text's own fault: processor time counts, whatever
    the machine's load, so that this verdict is kept like "right" and "wrong".

    To grade while the device works, `submit` the texts, go on, and ask the future for the result:
    the pool waits in a thread of its own, and the work is done in other processes.
    """

    def __init__(
        self,
        workers: int = 2,
        timeout: float = 3.0,
        grader: Grader | None = None,
        strategies: Sequence[str] = STRATEGY_ORDER,
    ) -> None:
        """Set the limits; nothing is started yet.

        Args:
            workers: Processes, at least 1.
            timeout: Seconds of computation one item may take in its worker, above 0.
            grader: Compares (gold, answer) in the worker instead of `is_equivalent`; a function
                that can be imported by its module's name.
            strategies: How a text's answer is found, names from `extraction.STRATEGIES`.

        Raises:
            ValueError: A limit is out of range or a strategy is unknown.
        """
        if workers < 1 or timeout <= 0:
            raise ValueError(f"workers={workers}, timeout={timeout}: give at least 1 and above 0")
        if not strategies or set(strategies) - set(STRATEGIES):
            raise ValueError(f"strategies={list(strategies)}: choose from {', '.join(STRATEGIES)}")
        self._count = workers
        self._timeout = timeout
        self._exact = grader is None
        self._grader = None if grader is None else pickle.dumps(grader)
        self._workers: list[_Worker] = []
        self._cache: OrderedDict[_Key, Verdict] = OrderedDict()
        self._strategies = tuple(strategies)
        self._failed_starts = 0
        self.retried = 0  # items that were graded a second time after a crash or a wait
        # Workers die with the thread that started them (worker.py), so one thread starts them all.
        self._thread = ThreadPoolExecutor(1, "grading")
        self._closed = False

    def __enter__(self) -> "GradingPool":
        """Nothing is started before it is needed."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the pool."""
        self.close()

    def prepare(self) -> None:
        """Start a worker in the background, which takes seconds: no item has to wait for it then.

        Raises:
            RuntimeError: The pool is closed.
        """
        if self._closed:
            raise RuntimeError("this GradingPool is closed")
        self._thread.submit(self._start_one)

    def _start_one(self) -> None:
        if not self._workers:
            self._workers.append(_Worker(self._grader))

    def close(self) -> None:
        """End all workers and drop submitted work; safe to call twice."""
        self._closed = True
        for worker in list(self._workers):  # what they are busy with is not waited for
            worker.process.kill()
        self._thread.shutdown(wait=True, cancel_futures=True)
        self._stop_workers()

    def submit(self, items: Sequence[tuple[str, str]]) -> "Future[list[Verdict]]":
        """`grade` in the background: returns at once; `result()` of the future waits.

        Raises:
            RuntimeError: The pool is closed.
        """
        if self._closed:
            raise RuntimeError("this GradingPool is closed")
        return self._thread.submit(self._grade, items)

    def grade(self, items: Sequence[tuple[str, str]]) -> list[Verdict]:
        """One verdict for each (gold answer, completion text), in the same order.

        Never raises for an item's text. Takes at most about
        `2 * len(items) * timeout / workers` seconds beyond the start of the workers on an idle
        machine, or twice as long where items are graded again.

        Raises:
            RuntimeError: The pool is closed, or workers cannot start (a broken installation).
        """
        try:
            return self.submit(items).result()
        except CancelledError as error:
            raise RuntimeError("this GradingPool was closed") from error

    def _grade(self, items: Sequence[tuple[str, str]]) -> list[Verdict]:
        keys = [(gold, answer_of(text, self._strategies)) for gold, text in items]
        known: dict[_Key, Verdict] = {}
        for key, (_, text) in zip(keys, items, strict=True):
            if key not in known:
                verdict = self._without_worker(key, text)
                if verdict is not None:
                    known[key] = verdict
        todo = deque(dict.fromkeys(key for key in keys if key not in known))
        try:
            self._with_workers(todo, known)
        except BaseException:
            self._stop_workers()  # an interrupted worker would answer the next call's item
            raise
        return [known[key] for key in keys]

    def _without_worker(self, key: _Key, text: str) -> Verdict | None:
        gold, answer = key
        if key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key]
        if len(answer) > MAX_ANSWER_LENGTH:
            return Verdict(False, "too_long")
        if not answer or not has_answer(gold, text, self._strategies, self._exact):
            # "seven" states 7 and \frac43 four thirds, though neither is a number; 216/24 is no 9.
            value = value_of(comparison_key(answer_of(gold)))
            sum_left = value is not None and value.denominator == 1
            stated = self._exact and not (sum_left and any(map(str.isdecimal, answer)))
            same = stated and is_same_spelling(answer_of(gold), answer)
            return _RIGHT if same else Verdict(False, "no_answer")
        if self._exact and is_same_spelling(answer_of(gold), answer):
            return _RIGHT
        if self._exact and are_other_numbers(answer_of(gold), answer):
            return _WRONG
        return None

    def _with_workers(self, todo: deque[_Key], known: dict[_Key, Verdict]) -> None:
        again: set[_Key] = set()  # what is graded a second time
        while todo or any(worker.key for worker in self._workers):
            if self._closed:
                raise RuntimeError("this GradingPool was closed")
            for worker in [w for w in self._workers if w.dead and w.ready and w.key is None]:
                self._drop(worker)
            busy = sum(worker.key is not None for worker in self._workers)
            while len(self._workers) < min(self._count, busy + len(todo)):
                self._workers.append(_Worker(self._grader))
            for worker in self._workers:
                if todo and worker.ready and worker.key is None:
                    # One that died just now leaves a closed pipe, which `_collect` sees.
                    with contextlib.suppress(OSError):
                        worker.assign(todo.popleft(), self._timeout)
            self._collect(todo, known, again)

    def _collect(self, todo: deque[_Key], known: dict[_Key, Verdict], again: set[_Key]) -> None:
        """Take what workers have to say, and drop those that are late or dead."""
        active = [worker for worker in self._workers if worker.key or not worker.ready]
        by_pipe: dict[object, _Worker] = {worker.connection: worker for worker in active}
        patience = min(worker.deadline for worker in active) - time.monotonic()
        pipes: list[Connection] = [worker.connection for worker in active]
        ended: list[tuple[_Worker, bool]] = []
        for pipe in wait(pipes, timeout=max(0.0, patience)):
            if not self._read(by_pipe[pipe], known):
                ended.append((by_pipe[pipe], False))
        for worker in active:
            if (worker.key or not worker.ready) and (worker, False) not in ended:
                ended += [(worker, True)] if worker.is_late() else []
        for worker, late in ended:
            status = self._drop(worker)
            if not worker.ready:
                self._count_failed_start(status)
            elif worker.key is not None:
                self._settle_ended(worker.key, status, late, todo, known, again)

    def _read(self, worker: _Worker, known: dict[_Key, Verdict]) -> bool:
        """Take a worker's message; False where it has died instead."""
        try:
            correct = worker.connection.recv()
        except (EOFError, OSError):
            return False
        if not worker.ready:
            worker.ready = True
            self._failed_starts = 0
        elif worker.key is not None:
            self._keep(worker.key, _RIGHT if correct else _WRONG, known)
            worker.key = None
        return True

    def _drop(self, worker: _Worker) -> int:
        """End a worker; `_with_workers` starts another while there is work."""
        self._workers.remove(worker)
        return worker.stop()

    def _count_failed_start(self, status: int) -> None:
        self._failed_starts += 1
        if self._failed_starts >= _STARTS:
            raise RuntimeError(
                f"{_STARTS} grading workers in a row did not start (exit status {status})"
            )

    def _settle_ended(
        self,
        key: _Key,
        status: int,
        late: bool,
        todo: deque[_Key],
        known: dict[_Key, Verdict],
        again: set[_Key],
    ) -> None:
        """Decide about the item of a worker that ended with it."""
        if not late and -status == COMPUTED:
            self._keep(key, Verdict(False, "timeout"), known)
        elif key not in again:
            again.add(key)
            self.retried += 1
            todo.appendleft(key)
        else:
            known[key] = Verdict(False, "timeout" if late else "crash")

    def _keep(self, key: _Key, verdict: Verdict, known: dict[_Key, Verdict]) -> None:
        """Give a verdict, now and whenever the same pair comes again."""
        known[key] = self._cache[key] = verdict
        if len(self._cache) > _CACHE_SIZE:
            self._cache.popitem(last=False)

    def _stop_workers(self) -> None:
        while self._workers:
            self._workers.pop().stop()
