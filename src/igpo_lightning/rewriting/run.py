"""Rewriting many traces: concurrency, checks, repeated tries, and going on after a kill."""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from igpo_lightning.data.problem import Problem
from igpo_lightning.errors import ConfigError
from igpo_lightning.rewards.worker_pool import GradingPool
from igpo_lightning.rewriting.endpoint import RequestFailedError
from igpo_lightning.rewriting.rules import RewriteLimits, form_fault
from igpo_lightning.runs import durable, json_lines

log = logging.getLogger(__name__)

REQUEST_FAILED = "request_failed"


@dataclass(frozen=True)
class Outcome:
    """What became of one row.

    Attributes:
        id: Of the problem.
        text: The accepted trace, or None where the row was dropped.
        tokens_before: Length of the original under the student's tokenizer.
        tokens_after: Length of `text`; 0 where there is none.
        rejected: The reasons against the tries before, in order: `form_fault`'s, "no_answer",
            "wrong_answer", "request_failed".
        as_is: The original was taken unasked, since it fulfils everything.
    """

    id: str
    text: str | None
    tokens_before: int
    tokens_after: int
    rejected: list[str]
    as_is: bool = False

    @property
    def finished(self) -> bool:
        """Whether the row need not be asked again: failed requests say nothing about it."""
        return self.text is not None or REQUEST_FAILED not in self.rejected


class RewriteLog:
    """Outcomes on disk, one JSON line each, complete as soon as `add` returns.

    The first line is the fingerprint of what the outcomes depend on.
    """

    def __init__(self, file: Path, fingerprint: str) -> None:
        """Open a log, or go on with one.

        Raises:
            ConfigError: It belongs to another source, model, prompt or setting.
        """
        self.finished: dict[str, Outcome] = {}
        kept: list[dict[str, Any]] = [{"fingerprint": fingerprint}]
        if file.exists():
            lines = [record for _, record in json_lines.read(file) if record is not None]
            if lines and lines[0] != kept[0]:
                raise ConfigError(
                    f"stage.output={file.parent}: holds rewrites made with another source, model, "
                    "prompt or setting; give another folder, or the settings of its manifest.json"
                )
            for line in lines[1:]:
                outcome = Outcome(**line)
                self.finished[outcome.id] = outcome
                kept.append(line)
        # Written anew: a kill may have left half a line at the end.
        durable.write_bytes(file, json_lines.encode(kept))
        self._file = file.open("ab")

    def add(self, outcome: Outcome) -> None:
        """Keep an outcome, so that a kill after this call does not lose it."""
        self.finished[outcome.id] = outcome
        self._file.write(json_lines.encode([asdict(outcome)]))
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


@dataclass(frozen=True)
class Rewriting:
    """What a run of `rewrite_all` needs.

    Attributes:
        rewrite: Gives one rewrite of a problem; may raise RequestFailedError.
        count_tokens: Length of a text under the student's tokenizer.
        pool: Grades the answers.
        limits: What a rewrite must fulfil.
        attempts: Tries a row, at least 1.
        concurrency: Rows that are worked on at the same time, at least 1.
    """

    rewrite: Callable[[Problem], Awaitable[str]]
    count_tokens: Callable[[str], int]
    pool: GradingPool
    limits: RewriteLimits
    attempts: int
    concurrency: int


async def rewrite_all(
    problems: Sequence[Problem], run: Rewriting, done: Callable[[Outcome], None]
) -> None:
    """Rewrite the solutions of problems that have one.

    Args:
        done: Called with every outcome as soon as it is known.

    Raises:
        ConfigError: The endpoint refuses requests for good; what is done has been told.
    """
    waiting = iter(problems)

    async def work() -> None:
        for problem in waiting:
            done(await _rewrite_one(problem, run))

    tasks = [asyncio.create_task(work()) for _ in range(run.concurrency)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


async def _rewrite_one(problem: Problem, run: Rewriting) -> Outcome:
    """Try until a rewrite passes every check, at most `attempts` times."""
    original = problem.solution
    assert original is not None
    before = run.count_tokens(original)
    rejected: list[str] = []
    if run.limits.keep_fitting:
        reason = await _fault(problem, original, before, run)
        if reason == "copy":  # the one thing that an original cannot help
            return Outcome(problem.id, original, before, before, rejected, as_is=True)
    for _ in range(run.attempts):
        try:
            text = await run.rewrite(problem)
        except RequestFailedError as error:
            log.warning("row %r: %s", problem.id, error)
            rejected.append(REQUEST_FAILED)
            continue
        tokens = run.count_tokens(text)
        reason = await _fault(problem, text, tokens, run)
        if reason is None:
            return Outcome(problem.id, text, before, tokens, rejected)
        rejected.append(reason)
    return Outcome(problem.id, None, before, 0, rejected)


async def _fault(problem: Problem, text: str, tokens: int, run: Rewriting) -> str | None:
    """Why a text is no rewrite of the solution, or None; "copy" only where all else holds."""
    fault = form_fault(problem.solution or "", text, tokens, run.limits)
    if fault not in (None, "copy"):
        return fault
    # Graded in other processes while further requests are on their way.
    (verdict,) = await asyncio.wrap_future(run.pool.submit([(problem.gold, text)]))
    if not verdict.correct:
        return "no_answer" if verdict.reason == "no_answer" else "wrong_answer"
    return fault
