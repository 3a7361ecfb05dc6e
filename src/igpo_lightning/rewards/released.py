r"""How the paper's released code tells right from wrong: one spelling, and the first box alone.

`experiment=igpo_released`: the answer of a text is its `first_box` (extraction.py). It is right
where it equals the gold answer after the string normalisation that was published with the MATH data
set (arXiv 2103.03874): no values are computed, so 4.0 is not 4 and 1,000 is not 1000.
"""

import re

from igpo_lightning.rewards.puzzles import puzzle_solved

_DROPPED = re.compile(r"\n|\\!|\\left|\\right|\^\{\\circ\}|\^\\circ|\\\$|\\?%")
_UNIT = re.compile(r"\\text\{ .*", re.DOTALL)
_BARE_POINT = re.compile(r"(^|[ {])\.")
_NAME = re.compile(r"^[^=]{0,2}=([^=]*)$", re.DOTALL)
_ROOT = re.compile(r"\\sqrt([^{])")
_SHORT_FRACTION = re.compile(r"\\frac([^{}\\])(?:([^{}\\])|(?=\{))")
_SLASH = re.compile(r"(-?\d+)/(-?\d+)")


def same_string(gold: str, answer: str) -> bool:
    """Whether two answers are spelled alike after normalisation; a grader for `GradingPool`.

    A puzzle has many right answers: where `gold` is the reference of one, the answer is checked.
    """
    solved = puzzle_solved(gold, answer)
    return one_spelling(gold) == one_spelling(answer) if solved is None else solved


def one_spelling(answer: str) -> str:
    r"""MATH's normalisation: signs, units and spaces dropped, fractions and roots in braces."""
    text = _DROPPED.sub("", answer.replace(r"\\", "\\"))
    text = re.sub(r"\\[td]frac", r"\\frac", text)
    text = _BARE_POINT.sub(r"\g<1>0.", _UNIT.sub("", text))
    if name := _NAME.match(text):  # x=12
        text = name.group(1)
    text = _ROOT.sub(r"\\sqrt{\1}", text).replace(" ", "")
    text = _SHORT_FRACTION.sub(_braced, text)
    if text == "0.5":
        return r"\frac{1}{2}"
    slash = _SLASH.fullmatch(text)
    return rf"\frac{{{slash.group(1)}}}{{{slash.group(2)}}}" if slash else text


def _braced(fraction: re.Match[str]) -> str:
    above, below = fraction.groups()
    return rf"\frac{{{above}}}" + (rf"{{{below}}}" if below else "")
