"""Countdown with three numbers, made and solved on the spot, in the form of d1's public test file.

    numbers 30, 100, 93, target 37
    trace   100+30=130; 130-93=37
    answer  100+30-93

A puzzle is drawn as numbers from 1 to 100 and an expression of two operations whose value is a
target from 1 to 100. Of all solutions the trace shows the first that `solve` finds, so that equal
puzzles have equal traces. Nine of ten puzzles need no multiplication and no division, as in the
public file, because such values are seldom whole and small.
"""

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from igpo_lightning.data.problem import Problem
from igpo_lightning.rewards.puzzles import countdown_reference

LARGEST = 100  # number or target
_SIGNS = "+-*/"
_WORDS = {"+": "plus", "-": "minus", "*": "times", "/": "over"}
# The two signs, and whether the first value stands behind the second sign. Simplest first: sums and
# differences, then what goes on from the first value (61-12-9 before 61-(12+9)).
_FORMS = sorted(
    itertools.product(itertools.product(_SIGNS, repeat=2), (False, True)),
    key=lambda form: (sum(sign in "*/" for sign in form[0]), form[1]),
)


@dataclass(frozen=True)
class Operation:
    """One step: two numbers, a sign and the value."""

    left: int
    sign: str
    right: int
    value: int


@dataclass(frozen=True)
class Solution:
    """Two operations, of which the second uses the first one's value, and the whole expression."""

    first: Operation
    second: Operation
    expression: str


def operate(left: int, sign: str, right: int) -> Operation | None:
    """The operation, or None where its value is no whole number above 0."""
    if sign == "+":
        value = left + right
    elif sign == "-":
        value = left - right
    elif sign == "*":
        value = left * right
    else:
        value = left // right if left % right == 0 else 0
    return Operation(left, sign, right, value) if value > 0 else None


def solve(numbers: Sequence[int], target: int) -> Solution | None:
    """The first solution in which every value is a whole number above 0; None without one.

    Sums and differences come first, and larger numbers stand before smaller ones where both orders
    are right.

    Args:
        numbers: Three numbers above 0.
    """
    return next(_solutions(sorted(numbers, reverse=True), target), None)


def _solutions(numbers: Sequence[int], target: int) -> Iterator[Solution]:
    for (one, two), behind in _FORMS:
        for a, b, c in itertools.permutations(numbers):
            first = operate(a, one, b)
            if first is None:
                continue
            second = operate(c, two, first.value) if behind else operate(first.value, two, c)
            if second is not None and second.value == target:
                yield Solution(first, second, _expression(first, two, c, behind))


def _expression(first: Operation, sign: str, other: int, behind: bool) -> str:
    """Both operations as one expression, with parentheses where it needs them."""
    inner = f"{first.left}{first.sign}{first.right}"
    closed = (sign in "*/" and first.sign in "+-") or (behind and sign in "-/")
    inner = f"({inner})" if closed else inner
    return f"{other}{sign}{inner}" if behind else f"{inner}{sign}{other}"


def draw_countdown(draw: random.Random) -> tuple[list[int], int]:
    """Three numbers and a target that they reach."""
    while True:
        a, b, c = (draw.randint(1, LARGEST) for _ in range(3))
        one, two = draw.choice(_SIGNS), draw.choice(_SIGNS)
        first = operate(a, one, b)
        last = operate(first.value, two, c) if first else None
        # Times 1 or over 1 is no step.
        idle = (one in "*/" and 1 in (a, b)) or (two in "*/" and c == 1)
        if last is not None and last.value <= LARGEST and not idle:
            return draw.sample([a, b, c], 3), last.value


def _forward(solution: Solution) -> list[str]:
    steps = (solution.first, solution.second)
    return [f"{s.left}{s.sign}{s.right}={s.value}" for s in steps]


def _backward(solution: Solution) -> list[str]:
    """What the target is made of, then what that is made of."""
    steps = (solution.second, solution.first)
    return [f"{s.value}={s.left}{s.sign}{s.right}" for s in steps]


def _words(solution: Solution) -> list[str]:
    steps = (solution.first, solution.second)
    return [f"{s.left} {_WORDS[s.sign]} {s.right} is {s.value}" for s in steps]


COUNTDOWN_WORDINGS: dict[str, Callable[[Solution], list[str]]] = {
    "forward": _forward,
    "backward": _backward,
    "words": _words,
}


def countdown_problem(draw: random.Random, question: str, wording: str) -> Problem:
    """A new puzzle with its trace.

    Args:
        question: What is asked; {numbers} and {target} are replaced.
        wording: One of `COUNTDOWN_WORDINGS`.
    """
    solution = None
    while solution is None:
        numbers, target = draw_countdown(draw)
        solution = solve(numbers, target)
    shown = question.replace("{numbers}", ", ".join(map(str, numbers)))
    return Problem(
        id=f"countdown-{'-'.join(map(str, sorted(numbers)))}-{target}",
        question=shown.replace("{target}", str(target)),
        # The prompt's template adds the expression.
        solution="; ".join(COUNTDOWN_WORDINGS[wording](solution)),
        answer=solution.expression,
        reference=countdown_reference(numbers, target),
    )
