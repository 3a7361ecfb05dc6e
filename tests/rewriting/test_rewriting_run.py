"""Rewriting many rows: tries, reasons, concurrency, and going on after a kill."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from igpo_lightning.data.problem import Problem
from igpo_lightning.errors import ConfigError
from igpo_lightning.rewards import GradingPool
from igpo_lightning.rewriting.endpoint import RequestFailedError
from igpo_lightning.rewriting.rules import RewriteLimits
from igpo_lightning.rewriting.run import Outcome, RewriteLog, Rewriting, rewrite_all

LIMITS = RewriteLimits(max_tokens=12, copy_share=0.8, keep_fitting=False)


@pytest.fixture(scope="module")
def pool() -> Iterator[GradingPool]:
    with GradingPool(workers=1) as made:
        yield made


def problem(number: int = 7) -> Problem:
    solution = f"Wait, let me count: 3 and 4 and nothing else, so it is {number}. The answer is 7."
    return Problem(id=f"p{number}", question="?", solution=solution, answer="7")


def outcomes(
    pool: GradingPool,
    replies: list[str | Exception],
    problems: list[Problem] | None = None,
    **changes: object,
) -> list[Outcome]:
    """What becomes of problems when the rewriter gives these replies, one after the other."""
    waiting = iter(replies)

    async def rewrite(asked: Problem) -> str:
        reply = next(waiting)
        if isinstance(reply, Exception):
            raise reply
        return reply

    run = Rewriting(
        rewrite, lambda text: len(text.split()), pool, LIMITS, attempts=3, concurrency=1
    )
    found: list[Outcome] = []
    asyncio.run(rewrite_all(problems or [problem()], replace(run, **changes), found.append))  # type: ignore[arg-type]
    assert not list(waiting)
    return found


GOOD = "3 + 4 = 7. The answer is 7."


def test_a_good_rewrite(pool: GradingPool) -> None:
    # 18 words before, 8 after.
    assert outcomes(pool, [GOOD]) == [Outcome("p7", GOOD, 18, 9, [])]


def test_faults_are_tried_again_and_counted(pool: GradingPool) -> None:
    replies: list[str | Exception] = ["", "3 + 4 = 8. The answer is 8.", GOOD]
    assert outcomes(pool, replies) == [Outcome("p7", GOOD, 18, 9, ["empty", "wrong_answer"])]


def test_after_all_tries_the_row_is_dropped(pool: GradingPool) -> None:
    long = "7 " * 13
    replies: list[str | Exception] = [long, "Wait. The answer is 7.", "Nothing to say."]
    (outcome,) = outcomes(pool, replies)
    assert outcome == Outcome("p7", None, 18, 0, ["too_long", "reflection", "no_answer"])
    assert outcome.finished


def test_a_failed_request_leaves_the_row_open(pool: GradingPool) -> None:
    failed = RequestFailedError("down")
    (outcome,) = outcomes(pool, [failed, failed, failed])
    assert outcome.rejected == ["request_failed"] * 3
    assert not outcome.finished
    (outcome,) = outcomes(pool, [failed, GOOD])
    assert outcome.finished
    assert outcome.text == GOOD


def test_originals_that_fulfil_everything_are_not_asked_for(pool: GradingPool) -> None:
    fine = replace(problem(), solution=GOOD)
    keep = replace(LIMITS, keep_fitting=True)
    (outcome,) = outcomes(pool, [], [fine], limits=keep)
    assert (outcome.text, outcome.as_is) == (GOOD, True)
    (outcome,) = outcomes(pool, [GOOD], [problem()], limits=keep)
    assert not outcome.as_is


def test_as_many_at_once_as_allowed(pool: GradingPool) -> None:
    at_once, most = 0, 0

    async def rewrite(asked: Problem) -> str:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0.02)
        at_once -= 1
        return GOOD

    run = Rewriting(rewrite, lambda text: 1, pool, LIMITS, attempts=1, concurrency=4)
    found: list[Outcome] = []
    asyncio.run(rewrite_all([problem(i) for i in range(12)], run, found.append))
    assert most == 4
    assert sorted(o.id for o in found) == sorted(f"p{i}" for i in range(12))


def test_a_refusal_ends_the_run_and_keeps_what_is_done(pool: GradingPool) -> None:
    found: list[Outcome] = []
    replies: Iterator[str | Exception] = iter([GOOD, ConfigError("no such model")])

    async def rewrite(asked: Problem) -> str:
        reply = next(replies)
        if isinstance(reply, Exception):
            raise reply
        return reply

    run = Rewriting(rewrite, lambda text: 1, pool, LIMITS, attempts=2, concurrency=1)
    with pytest.raises(ConfigError, match="no such model"):
        asyncio.run(rewrite_all([problem(i) for i in range(3)], run, found.append))
    assert [o.id for o in found] == ["p0"]


def test_the_log_gives_back_what_was_added(tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    log = RewriteLog(file, "f")
    added = [Outcome("a", "x = \u00e9", 5, 3, ["empty"]), Outcome("b", None, 5, 0, ["copy"])]
    for outcome in added:
        log.add(outcome)
    # Not closed: as a killed process leaves it.
    assert list(RewriteLog(file, "f").finished.values()) == added


def test_half_a_line_is_forgotten(tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    log = RewriteLog(file, "f")
    log.add(Outcome("a", "x", 5, 3, []))
    log.add(Outcome("b", "y", 5, 3, []))
    log.close()
    file.write_bytes(file.read_bytes()[:-10])
    again = RewriteLog(file, "f")
    assert set(again.finished) == {"a"}
    again.add(Outcome("b", "z", 5, 3, []))
    assert [json.loads(line).get("id") for line in file.open()] == [None, "a", "b"]


def test_a_later_outcome_of_a_row_counts(tmp_path: Path) -> None:
    log = RewriteLog(tmp_path / "log.jsonl", "f")
    log.add(Outcome("a", None, 5, 0, ["request_failed"]))
    log.add(Outcome("a", "x", 5, 3, []))
    again = RewriteLog(tmp_path / "log.jsonl", "f")
    assert again.finished["a"].text == "x"


def test_other_settings_need_another_folder(tmp_path: Path) -> None:
    RewriteLog(tmp_path / "log.jsonl", "f").close()
    with pytest.raises(ConfigError, match=f"stage.output={tmp_path}"):
        RewriteLog(tmp_path / "log.jsonl", "g")
