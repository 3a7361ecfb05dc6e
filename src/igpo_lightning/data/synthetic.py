r"""The embedded task: chains of additions and subtractions, generated on the spot.

    question  Start 12 A+5 B-3 C+9 D+4
    trace     A17 B14 C23 \boxed{27}

A letter names what came before it plus or minus one digit; every running value stays between 10
and 99. The trace states each intermediate result once and the last one only in the box, so that no
result can be copied from its next mention: the model has to learn the sums.
"""

import hashlib
import random
from collections.abc import Sequence

from igpo_lightning.data.problem import Problem

MAX_LEVEL = 4
_SMALLEST, _LARGEST = 10, 99  # running values: always two digits, two tokens
_NAMES = "ABCDEFGH"
# Which part of all chains a split may draw from; the parts are disjoint.
_SHARES = {"test": 0.1, "validation": 0.1, "train": 0.8}


def _draw_chain(level: int, draw: random.Random) -> tuple[int, list[int]]:
    """A start and 2 * level signed steps."""
    start = value = draw.randint(_SMALLEST, _LARGEST)
    steps = []
    for _ in range(2 * level):
        step = draw.choice(
            [s for s in range(-9, 10) if s != 0 and _SMALLEST <= value + s <= _LARGEST]
        )
        value += step
        steps.append(step)
    return start, steps


def _split_of(question: str) -> str:
    """The split that a chain belongs to: a function of its text alone."""
    digest = hashlib.blake2b(question.encode(), digest_size=8).digest()
    place = int.from_bytes(digest, "big") / 2**64
    for split, share in _SHARES.items():
        if place < share:
            return split
        place -= share
    return "train"


def _render(start: int, steps: Sequence[int], level: int) -> Problem:
    question = f"Start {start} " + " ".join(
        f"{name}{step:+d}" for name, step in zip(_NAMES, steps, strict=False)
    )
    lines, value = [], start
    for name, step in zip(_NAMES, steps[:-1], strict=False):
        value += step
        lines.append(f"{name}{value} ")
    answer = str(value + steps[-1])
    return Problem(
        id="arithmetic-" + hashlib.blake2b(question.encode(), digest_size=6).hexdigest(),
        question=question,
        solution="".join(lines) + f"\\boxed{{{answer}}}",
        answer=answer,
        level=level,
    )


def _draw_problem(split: str, level: int, draw: random.Random) -> Problem:
    while True:
        problem = _render(*_draw_chain(level, draw), level)
        if _split_of(problem.question) == split:
            return problem


def arithmetic_problems(
    split: str, size: int, levels: Sequence[int], seed: int = 0
) -> list[Problem]:
    """`size` different problems of a split, the levels in turn.

    Args:
        split: "train", "validation" or "test"; no chain is in two of them, whatever the seed.
        size: Number of problems.
        levels: Levels to draw from, 1 to `MAX_LEVEL`; a problem of level l has 2 l steps.
        seed: Equal seeds give equal problems.
    """
    draw = random.Random(f"arithmetic-{split}-{seed}")
    problems: dict[str, Problem] = {}
    while len(problems) < size:
        problem = _draw_problem(split, levels[len(problems) % len(levels)], draw)
        problems.setdefault(problem.id, problem)
    return list(problems.values())


def arithmetic_sft_example(
    index: int,
    seed: int,
    levels: Sequence[int],
    terse_share: Sequence[float],
    progress: float = 1.0,
) -> Problem:
    """The example at one place of an endless stream for fine-tuning, from the train split.

    Args:
        index: Place in the stream; the example is a function of (seed, index, progress).
        seed: Of the stream.
        levels: Levels to draw from, easiest first.
        terse_share: For each of `levels` the share of examples whose trace is the bare boxed
            answer; empty for none. It makes a policy that can reason but seldom does where
            problems are long: what reinforcement learning then has to bring out.
        progress: Share of training done, in [0, 1]: in the first half the levels come in one by
            one (the difficulty ladder).
    """
    draw = random.Random(f"arithmetic-sft-{seed}-{index}")
    open_levels = max(1, min(len(levels), 1 + int(2 * progress * len(levels))))
    place = draw.randrange(open_levels)
    problem = _draw_problem("train", levels[place], draw)
    if terse_share and draw.random() < terse_share[place]:
        bare = f"\\boxed{{{problem.answer}}}"
        return Problem(problem.id, problem.question, bare, problem.answer, problem.level)
    return problem
