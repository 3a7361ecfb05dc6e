r"""The embedded task: chains of additions and subtractions, generated on the spot.

    question  A+12 B-21 C+30 from 45
    trace     A+12=57; B-21=36; C+30=\boxed{66}

A letter names what came before it plus or minus a number of two digits, none above 3; nothing is
ever carried or borrowed, and every running value has two digits. What makes it learnable for a
small masked denoiser: few facts; no result is stated twice (it would learn to copy, never to add);
and a line's operands stand at the same distance in every line, the first one included, whose start
is the last word of the question.

A trace may also be in other words than those that the embedded policy was tuned on (`WORDINGS`), as
a teacher's traces are.
"""

import hashlib
import random
from collections.abc import Sequence
from dataclasses import replace

from igpo_lightning.data.problem import Problem
from igpo_lightning.errors import ConfigError

_LARGEST_DIGIT = 3  # of a step: few facts, which a small model learns in minutes
_PATIENCE = 1000  # draws without a new problem after which a level counts as used up
_NAMES = "ABCDE"
_FACTS_SHARE, _LADDER_SHARE = 0.1, 0.5  # of training
_TERSE_FROM = 0.5  # of training: the skill comes first, the habit of leaving it out last
_SUMS_SHARE = 0.3  # of examples while the ladder is climbed
# Which part of all chains a split may draw from; the parts are disjoint.
_SHARES = {"test": 0.1, "validation": 0.1, "train": 0.8}


def _draw_step(value: int, draw: random.Random) -> int:
    """A signed step that neither carries nor borrows and leaves two digits."""
    tens, units = divmod(value, 10)
    while True:
        sign = draw.choice((1, -1))
        by_tens, by_units = draw.randint(0, _LARGEST_DIGIT), draw.randint(0, _LARGEST_DIGIT)
        fits = 1 <= tens + sign * by_tens <= 9 and 0 <= units + sign * by_units <= 9
        if fits and (by_tens or by_units):
            return sign * (10 * by_tens + by_units)


def _draw_chain(level: int, draw: random.Random) -> tuple[int, list[int]]:
    """A start and `level + 1` signed steps."""
    start = value = draw.randint(10, 99)
    steps = []
    for _ in range(level + 1):
        steps.append(_draw_step(value, draw))
        value += steps[-1]
    return start, steps


def split_of(text: str) -> str:
    """The split that a generated problem belongs to: a function of its text alone."""
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    place = int.from_bytes(digest, "big") / 2**64
    for split, share in _SHARES.items():
        if place < share:
            return split
        place -= share
    return "train"


def _trace(start: int, steps: Sequence[int], wording: str) -> str:
    """What leads from the start to the boxed answer, one line per step."""
    lines: list[str] = []
    value = start
    for name, step in zip(_NAMES, steps, strict=False):
        before, value = value, value + step
        result = str(value) if len(lines) + 1 < len(steps) else f"\\boxed{{{value}}}"
        lines.append(f"{name if wording == 'names' else before}{step:+03d}={result}")
    # Without blanks values fill no more than the room that names need.
    return ("; " if wording == "names" else ",").join(lines)


def _render(start: int, steps: Sequence[int], wording: str) -> Problem:
    named = [f"{name}{step:+03d}" for name, step in zip(_NAMES, steps, strict=False)]
    question = " ".join(named) + f" from {start}"
    return Problem(
        id="arithmetic-" + hashlib.blake2b(question.encode(), digest_size=6).hexdigest(),
        question=question,
        solution=_trace(start, steps, wording),
        answer=str(start + sum(steps)),
        level=len(steps) - 1,
    )


def _single_sum(draw: random.Random, wording: str) -> Problem:
    """One line of a trace as a problem of its own, without a box: the ladder's lowest rung."""
    whole = _render(*_draw_chain(0, draw), wording)
    line = str(whole.solution).replace("\\boxed{", "").replace("}", "")
    return replace(whole, solution=line)


def _draw_problem(split: str, level: int, draw: random.Random, wording: str) -> Problem:
    while True:
        problem = _render(*_draw_chain(level, draw), wording)
        if split_of(problem.question) == split:
            return problem


def arithmetic_problems(
    split: str, size: int, levels: Sequence[int], seed: int = 0, wording: str = "names"
) -> list[Problem]:
    """`size` different problems of a split, the levels in turn.

    Args:
        split: "train", "validation" or "test"; no chain is in two of them, whatever the seed.
        levels: Levels to draw from, 1 to `MAX_LEVEL`: level l has l + 1 steps.
        wording: One of `WORDINGS`; questions, answers and ids are the same in each.

    Raises:
        ConfigError: A level does not have that many problems (level 1: 90 or so in a tenth).
    """
    draw = random.Random(f"arithmetic-{split}-{seed}")
    problems: dict[str, Problem] = {}
    for index in range(size):
        level = levels[index % len(levels)]
        for _ in range(_PATIENCE):
            problem = _draw_problem(split, level, draw, wording)
            if problem.id not in problems:
                break
        else:
            raise ConfigError(
                f"data.levels={list(levels)}: level {level} has too few chains for {size} "
                f"different {split} problems; ask for fewer (data.train_size, data.eval_size) or "
                "leave it out"
            )
        problems[problem.id] = problem
    return list(problems.values())


def arithmetic_sft_example(
    index: int,
    seed: int,
    levels: Sequence[int],
    terse_share: Sequence[float],
    progress: float = 1.0,
    wording: str = "names",
) -> Problem:
    """The example at one place of an endless stream for fine-tuning, from the train split.

    Args:
        index: Place in the stream; the example is a function of (seed, index, progress).
        levels: Levels to draw from, easiest first.
        terse_share: For each of `levels` the share of examples whose trace is the bare boxed
            answer; empty for none. It makes a policy that can reason but seldom does where
            problems are long, which reinforcement learning then has to bring out. Before
            `_TERSE_FROM` there are none.
        progress: Share of training done, in [0, 1], by which the difficulty ladder is climbed:
            single sums for the first `_FACTS_SHARE`; then one level after the other, with sums
            among them; all levels and nothing else from `_LADDER_SHARE` on.
        wording: One of `WORDINGS`.
    """
    draw = random.Random(f"arithmetic-sft-{seed}-{index}")
    if progress < _FACTS_SHARE or (progress < _LADDER_SHARE and draw.random() < _SUMS_SHARE):
        return _single_sum(draw, wording)
    climbed = (progress - _FACTS_SHARE) / (_LADDER_SHARE - _FACTS_SHARE)
    place = draw.randrange(min(len(levels), 1 + int(climbed * len(levels))))
    problem = _draw_problem("train", levels[place], draw, wording)
    if terse_share and progress >= _TERSE_FROM and draw.random() < terse_share[place]:
        bare = f"\\boxed{{{problem.answer}}}"
        return Problem(problem.id, problem.question, bare, problem.answer, problem.level)
    return problem
