"""Where a trace gives its answer away: what a hint must never show (arXiv 2509.10396, Sec. 3.2)."""

import bisect
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction

from igpo_lightning.rewards.extraction import find_boxes, find_marks
from igpo_lightning.rewards.grading import MAX_ANSWER_LENGTH, is_same_spelling, joined_boxes
from igpo_lightning.rewards.normalization import NUMBER_WORDS, comparison_key, normalize
from igpo_lightning.rewards.sentences import LINE_BREAK, sentence_bounds

_AROUND = 40  # characters before a mention that tell whether it is a result
_MOST_MARKS = 500
_MOST_RESULTS = 200  # sentences in a row that come to the answer
_LONGEST_LINE = 2000
_LONG_LITERAL = 100
# What a sentence that only announces the answer is made of, besides the answer.
_ANNOUNCEMENT = re.compile(
    r"\b(?:the|final|correct|so|thus|hence|therefore|and|our|answer|is|boxed|fbox|text(?:bf)?|math"
    r"rm|left|right|dfrac|frac|[A-E])\b|[^A-Za-z]",
    re.IGNORECASE,
)
# A command may stand right before the number: \cdot10, \approx10, \pm5.
_NUMBER = re.compile(
    r"(?:(?<![\w.])|\\[A-Za-z]{2,12})"
    r"(?P<number>(?:\d{1,3}(?:(?:,|\{,\}|,\\!|\\,)\d{3})+(?!\d)|\d+)(?:\.\d+)?|(?<!\w)\.\d+)"
)
_FRACTION = re.compile(
    r"(?P<whole>(?<!\d)\d{1,30}\s{0,9})?\\[dtc]?frac\s{0,9}(?:\{\s{0,9}(?P<a>\d{1,99})\s{0,9}\}|(?P<b>\d))"
    r"\s{0,9}(?:\{\s{0,9}(?P<c>\d{1,99})\s{0,9}\}|(?P<d>\d))"
    r"|(?<![\w.])(?P<e>\d{1,99})\s{0,9}/\s{0,9}(?P<f>\d{1,99})(?!\d)"
)
_WORD = re.compile(r"\b(?:" + "|".join(NUMBER_WORDS) + r")\b", re.IGNORECASE)
# Typing habits that an answer and its mention may differ in.
_LOOSE = re.compile(r"\s+|\\(?:left|right|displaystyle)(?![A-Za-z])|\\[!,;:]|\\ |[{}$]")
_SMALL_FRACTION = re.compile(r"\\[dtc]frac")
# Exponents and indices are no mentions, nor are numbers that go on: 10x, 2\\sqrt3, 2^4, 3(5), 4!
_RAISED = re.compile(r"[_^]\s?(?:\{\s?)?[-+]?$")
_GOES_ON = re.compile(
    r"[abcijknp-rt-z](?![A-Za-z])|\^(?!\s*\{?\s*\\circ)|\(|!(?=\s*[=*\\/])|\s?\\(?:sqrt|pi|left\s*\()(?![a-z])"
    r"|_(?![A-Za-z\d]*\s*[$.])"
)
_OPERAND_BEFORE = re.compile(r"(?:[+*/]|[\w)}\]]\s?-|\\(?:cdot|times|div))\s?$|[(,]\s?$")
_OPERAND_AFTER = re.compile(
    r"\s?(?:[-+*/]\s?[\w\\({]|\\(?:cdot|times|div)(?![a-z])|,\s?[\w\\]+[,)])"
)
# A result is what a relation or a verb of calculation leads to.
_RELATION = re.compile(
    r"(?:[=\u2248\u2192]|>>|\\(?:approx|equiv|to|[lg]eq?|Rightarrow)(?![a-z]))&?[ \t$\\{]*$"
)
_CALCULATES = re.compile(
    r"\b(?:(gives?|giving|makes?|making|yields?|equals?|leaves?|leaving|gets?|getting|obtains?|totals?|"
    r"becomes?|comes? (?:out )?to|(?:total|sum|product|difference) of|is|are|be)|find|has|have|"
    r"there)"
    r"(?: (?:you|us|exactly|only|a total of|equal to|just|then|thus))?[ \t$]*$",
    re.IGNORECASE,
)
_CONCLUDES = re.compile(
    r"[=+*/\u00d7\u00f7]|\\(?:cdot|times|frac|binom)|\b(?:so|thus|hence|therefore|total|altogether|"
    r"gives|leaves|yields|equals|minus|plus|times|remaining)\b",
    re.IGNORECASE,
)
_SIGN = re.compile(r"[-\u2212]\s*(?:\\?\$)?|\\?\$(?=[\d.])")


def find_answer_span(trace: str, answer: str) -> tuple[int, int] | None:
    r"""The characters [start, end) of a trace that give its final answer away.

    The trace's final statement is the sentence of the first mark (a box, `<answer>`, `####`, "The
    answer is") that shows the answer; of the last mark, where none is spelled like the answer; of
    the last mention of the answer, where there is no mark. A sentence that only announces the
    answer ("#### 18") is read together with the one before it, and so are sentences right before
    them that come to the answer ("= 18", "37 * 11 gives you 407"). The span reaches from the
    earliest mention of the answer in them, in any spelling (1,000 and 1000.0, 7.5 and
    \frac{15}{2}, seven), to the end of the trace: what follows may repeat it. Exponents, indices,
    coefficients and bases are no mentions, nor are operands in a line before the statement's own.
    Takes linear time.

    Args:
        trace: The solution; GSM8K's calculator marks may be in it.
        answer: The official answer, without a box.

    Returns:
        (start, end) with `end == len(trace)`, or None where the trace never states the answer.
    """
    bounds = sentence_bounds(trace)
    mark = first_mark(trace, answer)
    wanted = _Wanted.of(answer)
    if mark is None:
        first = next(
            (i for i in reversed(range(len(bounds))) if _named(trace, bounds[i], wanted)), -1
        )
        if first < 0:
            return None
    else:
        first = bisect.bisect_right(bounds, (mark, len(trace))) - 1
    starts = [] if mark is None else [mark]
    if first > 0 and _announces_only(trace, *bounds[first], answer):
        starts += _named(trace, bounds[first], wanted)
        first -= 1
    starts += _statement_mentions(trace, bounds[first], wanted)
    for sentence in reversed(bounds[max(0, first - _MOST_RESULTS) : first]):
        if not _named(trace, sentence, wanted, results_alone=True):
            break
        starts += _statement_mentions(trace, sentence, wanted)
    return _with_sign(trace, min(starts)), len(trace)


def first_mark(text: str, answer: str) -> int | None:
    """Where the answer is first marked as such; else where the last mark is; None without one."""
    marks = find_marks(text)
    if len(marks) > _MOST_MARKS:  # no solution has so many; comparing each would take its time
        return marks[0][0]
    for start, content in marks:
        if is_same_spelling(answer, content):
            return start
    boxes = find_boxes(text)
    if boxes and boxes[-1].start == marks[-1][0]:
        return joined_boxes(text, boxes)[0].start
    return marks[-1][0] if marks else None


def _announces_only(text: str, start: int, end: int, answer: str) -> bool:
    """Whether a sentence holds nothing but the answer and words like "The answer is"."""
    sentence = text[start:end].replace(answer, " ")
    return not _ANNOUNCEMENT.sub("", sentence)


def _statement_mentions(text: str, sentence: tuple[int, int], wanted: "_Wanted") -> list[int]:
    """Mentions in a statement; parts of formulas count in the statement's last line alone.

    The line may begin before the sentence, where that is cut at a display.
    """
    start, end = sentence[0], len(text[: sentence[1]].rstrip())
    cuts = [cut.end() for cut in LINE_BREAK.finditer(text, max(0, start - _LONGEST_LINE), end)]
    line = max(cuts, default=0 if start < _LONGEST_LINE else start)

    def counts(first: int, last: int) -> bool:
        if _is_raised(text, first):
            return False
        return first >= line or not (_is_operand(text, first, last) or _GOES_ON.match(text, last))

    return _earliest(_spellings(text, min(line, start), end, wanted), counts)


def _named(
    text: str, sentence: tuple[int, int], wanted: "_Wanted", results_alone: bool = False
) -> list[int]:
    """Mentions in any other sentence; with `results_alone` those that it comes to."""

    def counts(first: int, last: int) -> bool:
        if _is_raised(text, first) or _GOES_ON.match(text, last):
            return False
        return not results_alone or _is_result(text, first, last, sentence)

    return _earliest(_spellings(text, *sentence, wanted), counts)


def _earliest(
    spellings: Iterable[Iterator[tuple[int, int]]], counts: Callable[[int, int], bool]
) -> list[int]:
    """The first mention that counts in each kind of spelling, where there is one."""
    firsts = (next((a for a, b in mentions if counts(a, b)), None) for mentions in spellings)
    return [first for first in firsts if first is not None]


def _is_raised(text: str, start: int) -> bool:
    """Whether a number is an exponent or an index."""
    return _RAISED.search(text[max(0, start - 4) : start]) is not None


def _is_operand(text: str, start: int, end: int) -> bool:
    before = text[max(0, start - _AROUND) : start]
    if _RELATION.search(before):
        return False
    return bool(_OPERAND_BEFORE.search(before) or _OPERAND_AFTER.match(text, end))


def _is_result(text: str, start: int, end: int, sentence: tuple[int, int]) -> bool:
    """Whether the mention is what a calculation comes to."""
    signed = _with_sign(text, start)
    before = text[max(sentence[0], signed - _AROUND) : signed]
    if _OPERAND_AFTER.match(text, end):
        return False
    if _RELATION.search(before):
        return True
    verb = _CALCULATES.search(before)
    if verb is None:
        return False
    ends = not re.search(r"\w", text[end : min(sentence[1], end + _AROUND)])
    return (ends and verb[1] is not None) or _CONCLUDES.search(text, *sentence) is not None


def _with_sign(text: str, start: int) -> int:
    """The start moved before the minus or currency sign of the number there."""
    for sign in range(max(0, start - 4), start):
        match = _SIGN.match(text, sign)
        if match and match.end() == start:
            return sign
    return start


@dataclass(frozen=True)
class _Wanted:
    """An answer, ready to be looked for: its absolute values, if it is a number, and its text."""

    values: frozenset[Fraction]
    literal: str

    @classmethod
    def of(cls, answer: str) -> "_Wanted":
        literal = _LOOSE.sub("", _SMALL_FRACTION.sub(r"\\frac", answer))
        if len(answer) > MAX_ANSWER_LENGTH:
            return cls(frozenset(), literal)
        return cls(frozenset(_values(answer)), literal)


def _spellings(text: str, start: int, end: int, wanted: _Wanted) -> list[Iterator[tuple[int, int]]]:
    """[first, end) of each mention of the answer, in order, for each kind of spelling."""
    literal = _literal_mentions(text, start, end, wanted.literal)
    if not wanted.values:
        return [literal]
    numbers = _number_mentions(text, start, end, wanted.values)
    words = (
        match.span()
        for match in _WORD.finditer(text, start, end)
        if NUMBER_WORDS.index(match.group().lower()) in wanted.values
    )
    return [literal, numbers, words, _fraction_mentions(text, start, end, wanted.values)]


def _number_mentions(
    text: str, start: int, end: int, values: frozenset[Fraction]
) -> Iterator[tuple[int, int]]:
    for match in _NUMBER.finditer(text, start, end):
        digits = re.sub(r"[^\d.]", "", match["number"]).rstrip(".")
        if len(digits) <= MAX_ANSWER_LENGTH and Fraction(digits) in values:
            yield match.span("number")


def _fraction_mentions(
    text: str, start: int, end: int, values: frozenset[Fraction]
) -> Iterator[tuple[int, int]]:
    for match in _FRACTION.finditer(text, start, end):
        top = int(match["a"] or match["b"] or match["e"])
        bottom = int(match["c"] or match["d"] or match["f"])
        # 12/2 is a step on the way to 6, not a spelling of it.
        if bottom == 0 or (match["e"] and top % bottom == 0):
            continue
        value = Fraction(top, bottom)
        if value in values or int(match["whole"] or 0) + value in values:
            yield match.span()


def _literal_mentions(text: str, start: int, end: int, wanted: str) -> Iterator[tuple[int, int]]:
    """The answer as it is written, but for spaces, braces and sizes of brackets."""
    if not wanted:
        return
    kept, places, at = [], [], start
    while at < end:
        loose = _LOOSE.match(text, at, end)
        if loose:
            at = loose.end()
            continue
        small = _SMALL_FRACTION.match(text, at, end)
        kept.append("\\" if small else text[at])
        places.append(at)
        at += 2 if small else 1
    squeezed, found = "".join(kept), -1
    if len(wanted) > _LONG_LITERAL:  # looking for what overlaps would take the square of its time
        found = squeezed.find(wanted)
        if found >= 0:
            yield places[found], places[found + len(wanted) - 1] + 1
        return
    while (found := squeezed.find(wanted, found + 1)) >= 0:
        first, last = places[found], places[found + len(wanted) - 1]
        cut_before = wanted[0].isalnum() and re.match(r"[\w.]", text[max(0, first - 1) : first])
        cut_after = wanted[-1].isalnum() and re.match(r"\w|\.\d", text[last + 1 : last + 3])
        if not cut_before and not cut_after:
            yield first, last + 1


def _values(answer: str) -> set[Fraction]:
    """The absolute values that a numeric answer may be written as; empty for other answers."""
    key = comparison_key(answer).replace("{-}", "-").lstrip("-")
    match = _FRACTION.fullmatch(key)
    if match:
        top = int(match["a"] or match["b"] or match["e"])
        bottom = int(match["c"] or match["d"] or match["f"])
        if bottom == 0:
            return set()
        return {int(match["whole"] or 0) + Fraction(top, bottom)}
    if not re.fullmatch(r"\d+(?:\.\d+)?", key):
        return set()
    value = Fraction(key)
    return {value, value / 100} if "%" in normalize(answer) else {value}
