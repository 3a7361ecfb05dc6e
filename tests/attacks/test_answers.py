"""Answers made to win, to hang or to break the grader: none is right, and none costs much."""

import time
from collections.abc import Iterator

import pytest

from igpo_lightning.rewards import GradingPool

# (gold, completion): none of the completions states the gold.
HOSTILE: dict[str, tuple[str, str]] = {
    "a tower of powers": ("9", r"\boxed{9^{9^{9^{9}}}}"),
    "a factorial of 10^9": ("1", r"\boxed{1000000000!}"),
    "a factorial of factorials": ("6", r"\boxed{3!!!!!!!!}"),
    "a sum of 10^9 terms": ("1", r"\boxed{\sum_{i=1}^{1000000000} i^i}"),
    "a product without end": ("0", r"\boxed{\prod_{i=1}^{\infty} i}"),
    "an integral nobody knows": ("1", r"\boxed{\int_0^1 e^{e^{e^{x^{x^x}}}} dx}"),
    "a limit": ("1", r"\boxed{\lim_{x\to\infty} x^{x^x}}"),
    "a file": ("root", r"\boxed{\input{/etc/passwd}}"),
    "a macro of itself": ("2", r"\def\a{\a\a}\boxed{\a}"),
    "a new command": ("5", r"\newcommand{\x}{5}\boxed{\x}"),
    "Python": ("2", r"\boxed{__import__('os').getpid()}"),
    "an attribute": ("1", r"\boxed{x.__class__.__mro__}"),
    "fractions 10^4 deep": ("1", r"\boxed{" + r"\frac{1}{" * 10**4 + "1" + "}" * 10**4 + "}"),
    "braces 10^5 deep": ("3", r"\boxed" + "{" * 10**5 + "4" + "}" * 10**5),
    "brackets 10^5 deep": ("3", r"\boxed{" + "(" * 10**5 + "4" + ")" * 10**5 + "}"),
    "10^5 boxes": ("3", r"\boxed{4}" * 10**5),
    "a box that never closes": ("3", r"\boxed{4" + "x" * 10**5),
    "10^4 roots": ("2", r"\boxed{" + r"\sqrt{" * 10**4 + "2" + "}" * 10**4 + "}"),
    "a matrix of 10^4 rows": ("1", r"\boxed{\begin{matrix}" + r"1\\" * 10**4 + r"\end{matrix}}"),
    "a set of 10^4 members": ("1", r"\boxed{\{" + ",".join(map(str, range(10**4))) + r"\}}"),
    "every answer at once": ("42", r"\boxed{" + ",".join(map(str, range(100))) + "}"),
    "every answer, each in its box": ("42", "".join(rf"\boxed{{{i}}}" for i in range(100))),
    "an interval around it": ("42", r"\boxed{(0,100)}"),
    "an inequality around it": ("42", r"\boxed{0<x<100}"),
    "plus or minus": ("42", r"\boxed{\pm 42}"),
    "or": ("42", r"\boxed{41 \text{ or } 42}"),
    "about": ("42", r"\boxed{\approx 41.9}"),
    "a variable": ("42", r"\boxed{x}"),
    "the question's words": ("42", r"\boxed{\text{the answer}}"),
    "nothing": ("0", r"\boxed{}"),
    "blanks": ("0", r"\boxed{\quad\;}"),
    "infinity": ("100000000000000000000", r"\boxed{\infty}"),
    "nan": ("0", r"\boxed{nan}"),
    "0/0": ("1", r"\boxed{\frac{0}{0}}"),
    "1/0": ("1", r"\boxed{1/0}"),
    "a NUL": ("4", "\\boxed{4\x002}"),
    "a mark that turns the writing": ("42", "\\boxed{\u202e42}"),
    "5,000 digits": ("1", r"\boxed{1" + "0" * 5000 + "1}"),
    "a decimal of 5,000 digits": ("0.1", r"\boxed{0.1" + "0" * 5000 + "1}"),
    "1e999999999": ("1", r"\boxed{1e999999999}"),
    "a shell": ("1", r"\boxed{\write18{echo 1}}"),
    "a denial": ("42", r"\boxed{42 \text{ is not the answer}}"),
    "a remainder": ("1", r"\boxed{2 % 1}"),
    "cents for dollars": (r"\$5", r"\boxed{5\text{ cents}}"),
    "two boxes, both kinds": ("1", r"\boxed{1} not \boxed{2}"),
    "a power of a power": ("9", r"\boxed{9^{9^9}}"),
    "another base": ("5", r"\boxed{101_3}"),
}


@pytest.fixture(scope="module")
def pool() -> Iterator[GradingPool]:
    with GradingPool(workers=1, timeout=1.0) as pool:
        pool.grade([("1", r"\boxed{2x}")])  # the worker has started
        yield pool


def test_no_hostile_answer_is_right(pool: GradingPool) -> None:
    began = time.monotonic()
    verdicts = pool.grade(list(HOSTILE.values()))
    right = [name for name, verdict in zip(HOSTILE, verdicts, strict=True) if verdict.correct]
    assert right == []
    # Each may take its second, and be graded again where the machine is busy.
    assert time.monotonic() - began < 2 * len(HOSTILE)


def test_the_pool_grades_on_after_them(pool: GradingPool) -> None:
    pool.grade(list(HOSTILE.values()))
    answers = [("7", r"\boxed{7}"), (r"\frac12", r"\boxed{0.5}"), ("7", r"\boxed{8}")]
    assert [verdict.correct for verdict in pool.grade(answers)] == [True, True, False]
