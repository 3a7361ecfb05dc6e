"""Problems that stand both in a training set and in an evaluation set."""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from igpo_lightning.data.problem import Problem
from igpo_lightning.rewards.puzzles import canonical_puzzle

_LAYOUT = re.compile(
    r"\\(?:[()\[\]{},;:! ]|(?:left|right|[bB]igg?|displaystyle|textstyle|q?quad)(?![A-Za-z]))"
)
_WRAPPERS = re.compile(
    r"\\(?:text(?:bf|it|rm|normal)?|math(?:rm|bf|it)|mbox|operatorname)(?![a-z])"
)
_ALIKE = (("\\dfrac", "\\frac"), ("\\tfrac", "\\frac"), ("\\cdot", "*"), ("\\times", "*"))
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_BETWEEN_NUMBERS = re.compile(r"(?<=\d)[^\w.+\-*/=<>^\\|%!]+(?=\d)")
# What changes the mathematics stays; spaces, punctuation, math delimiters and grouping go.
_DROPPED = re.compile(r"[^\w.+\-*/=<>^\\|%!]|(?<!\d)\.|\.(?!\d)")

HELD_OUT, TRAINED = "held-out problems", "training problems"


@dataclass(frozen=True)
class Shared:
    """A training problem that is also an evaluation problem.

    Attributes:
        train_id: Its id in the training set.
        evaluation: Name of the evaluation set.
        evaluation_id: Its id there.
        exact: The questions are the same letter by letter; else only once normalised.
    """

    train_id: str
    evaluation: str
    evaluation_id: str
    exact: bool


def normalise_question(question: str) -> str:
    """A question without what typing changes: case, spaces, punctuation, LaTeX layout.

    Digits, letters, operators and LaTeX commands stay, so two problems that differ in a number or
    a sign stay different.
    """
    text = unicodedata.normalize("NFKC", question)
    text = _WRAPPERS.sub("", _LAYOUT.sub("", text)).casefold()
    for spelling, common in _ALIKE:
        text = text.replace(spelling, common)
    text = _BETWEEN_NUMBERS.sub("_", _THOUSANDS.sub("", text))  # 1, 23 is not 12, 3
    return _DROPPED.sub("", text)


def _key(problem: Problem) -> str:
    """What two problems share if they are the same but for typing: the puzzle or the question."""
    if problem.reference is not None:
        return canonical_puzzle(problem.reference)
    return normalise_question(problem.question)


def find_overlap(
    train: Iterable[Problem], evaluation: Mapping[str, Sequence[Problem]]
) -> list[Shared]:
    """Every training problem that is in an evaluation set, exactly or normalised.

    Questions are compared as `normalise_question` has them, puzzles as `canonical_puzzle`.

    Args:
        evaluation: Name of an evaluation set: its problems.

    Returns:
        One entry for a training problem and an evaluation set, in the order of `train`.
    """
    exact = {name: {p.question: p.id for p in rows} for name, rows in evaluation.items()}
    normalised = {name: {_key(p): p.id for p in rows} for name, rows in evaluation.items()}
    shared: list[Shared] = []
    for problem in train:
        key = _key(problem)
        for name in evaluation:
            if problem.question in exact[name]:
                found = exact[name][problem.question]
                shared.append(Shared(problem.id, name, found, True))
            elif key in normalised[name]:
                shared.append(Shared(problem.id, name, normalised[name][key], False))
    return shared


def evaluated_on(asked: Sequence[Problem], train: Iterable[Problem]) -> str:
    """What the problems of an evaluation are to a model that `train` has trained."""
    trained = {problem.question for problem in train}
    both = sum(problem.question in trained for problem in asked)
    if both == 0:
        return HELD_OUT
    return TRAINED if both == len(asked) else f"problems ({both} of them trained on)"
