"""The last number that a text states, for texts that mark no answer.

A number that is part of an expression is not stated: nobody has said what `216/24 =` comes to, and
working it out would reward whoever wrote the question into the answer.
"""

import math
import re
from collections import deque
from collections.abc import Callable
from fractions import Fraction

_NUMBER = re.compile(
    r"(?<![A-Za-z\d_.])-?(?:\\[dt]?frac\{-?\d+\}\{\d+\}|"
    r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?(?:/\d+)?|\.\d+)"
)
# Formulas of prose; bounded, because every opening sign of a hostile text is tried.
_FORMULA = re.compile(
    r"\$\$[^$]{1,400}\$\$|\$[^$\n]{1,400}\$|\\\(.{1,400}?\\\)|\\\[.{1,400}?\\\]", re.DOTALL
)
# Formulas are at most so long; a bounded end keeps the search linear.
_FORMULA_LIMIT = 404
# So many numbers are looked at, from the end: a text that goes on longer in sums states nothing.
_CANDIDATES = 30
# How far back dollar signs are paired, in characters.
_LINE_LIMIT = 2000
# Characters on either side of a number that tell whether it is an operand.
_AROUND = 16
_OPERAND_OF = re.compile(
    r"(?:[+*/^_\u00d7\u00f7\u00b7]|\\(?:cdot|times|div|pm|mp)|"
    r"(?:[\d)}\]]|\b[A-Za-z])[ \t]*[-\u2212])"
    r"[ \t]*\{?$|[\d)}\]][ \t]*$"
)
_HAS_OPERAND = re.compile(
    r"[ \t]*(?:[-+*/\u2212\u00d7\u00f7\u00b7][ \t]*(?:[\d(\\{]|[A-Za-z]\b)"
    r"|\^(?!\s*\{?\s*\\circ)|\\(?:cdot|times|div|pm|mp)"
    r"|!(?=[ \t]*(?:=|\*|\\)))|[ \t]*[)}\]]*[ \t]*=(?:[ \t$]|\\[)\]])*(?:\n|$|[A-Za-z]{2})"
)
_FRACTION = re.compile(r"-?(?:\\[dtc]?frac\{(-?\d{1,99})\}\{(\d{1,99})\}|(\d{1,99})/(\d{1,99}))")
# Signs of arithmetic between numbers; a sign before the first is none.
_ARITHMETIC = re.compile(
    r"(?<=[\d)}!])\s*(?:[-+*/^!\u2212\u00d7\u00f7\u00b7]|\\(?:cdot|times|div)(?![a-z]))|\\(?:binom|[dt]?frac)"
)
# With one of these a formula is a value in its final form, not a sum left to do.
_SYMBOL = re.compile(
    r"(?<![A-Za-z\\])[A-Za-z](?![A-Za-z])|\\(?:pi|sqrt|[lg]eq?|infty|theta|pm)(?![a-z])|[,:;]"
)
_PROSE = re.compile(r"(?<![A-Za-z\\{])[A-Za-z]{3,} ")
_ROOT = re.compile(r"\\sqrt\s*\{?\s*(\d{1,30})(?![\d.])")


def stated_number(text: str, bare: Callable[[str], str]) -> tuple[str, int, int] | None:
    r"""The last stated number and its place, or the formula it ends.

    A number inside a word, an exponent, an index, an operand, a number before an equals sign that
    nothing follows, and a fraction that is an integer (6/2) are not stated. Where the number
    stands in a formula, the right side of that formula's last equals sign is the answer: a
    fraction, a pair, a root; but no arithmetic (`3 \cdot 4`).

    Args:
        text: Anything.
        bare: Strips the delimiters of a formula.

    Returns:
        (answer, start, end), or None.
    """
    for number in reversed(deque(_NUMBER.finditer(text), maxlen=_CANDIDATES)):
        formula = _formula_around(text, number)
        if formula is not None:
            side = bare(formula.group()).rpartition("=")[2].strip()
            # Between two prices stand words, not a formula.
            if re.search(r"\d", side) and len(side) > 1 and not _PROSE.search(side):
                if _is_value(side):
                    start = text.rindex(side, formula.start(), formula.end())
                    return side, start, start + len(side)
                continue
        if _is_stated(text, number):
            return number.group(), number.start(), number.end()
    return None


def _formula_around(text: str, number: re.Match[str]) -> re.Match[str] | None:
    limit = max(0, number.start() - _LINE_LIMIT)
    line = text.rfind("\n", limit, number.start()) + 1
    end = number.end() + _FORMULA_LIMIT
    for formula in _FORMULA.finditer(text, max(line, limit), end):
        if formula.start() < number.start() < formula.end():
            return formula
        if formula.start() > number.start():
            return None
    return None


def _is_stated(text: str, number: re.Match[str]) -> bool:
    start, end = number.span()
    if _OPERAND_OF.search(text[max(0, start - _AROUND) : start]):
        return False
    return not _HAS_OPERAND.match(text[end : end + _AROUND]) and not _is_division(number.group())


def _is_division(text: str) -> bool:
    """Whether a fraction of integers comes to an integer."""
    match = _FRACTION.fullmatch(text)
    if match is None:
        return False
    top, bottom = int(match[1] or match[3]), int(match[2] or match[4])
    return bottom != 0 and Fraction(top, bottom).denominator == 1


def _is_value(side: str) -> bool:
    """Whether one side of a formula is a value, and no arithmetic that is left to do."""
    if any(math.isqrt(int(root[1])) ** 2 == int(root[1]) for root in _ROOT.finditer(side)):
        return False
    if _FRACTION.fullmatch(side):
        return not _is_division(side)
    return _SYMBOL.search(side) is not None or _ARITHMETIC.search(side) is None
