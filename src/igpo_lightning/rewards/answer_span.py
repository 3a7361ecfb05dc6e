"""Where a trace gives its answer away: what a hint must never show (arXiv 2509.10396, Sec. 3.2)."""

import re
from collections.abc import Iterator
from fractions import Fraction

from igpo_lightning.rewards.extraction import find_boxes, find_marks
from igpo_lightning.rewards.grading import is_same_spelling, joined_boxes
from igpo_lightning.rewards.normalization import NUMBER_WORDS, comparison_key, normalize

# A line break ends a sentence unless it lies inside a display, which is one statement.
_DISPLAY = re.compile(
    r"\\begin\{([a-z]+\*?)\}.*?\\end\{\1\}|\\\[.*?\\\]|\$\$.*?\$\$|\[asy\].*?\[/asy\]", re.DOTALL
)
_BREAK = re.compile(r"[.!?][\"')\]}$*]*\s+|\s*\n\s*")
# What a sentence that only announces the answer is made of, besides the answer.
_ANNOUNCEMENT = re.compile(
    r"\b(?:the|final|correct|so|thus|hence|therefore|and|our|answer|is|boxed|fbox|text(?:bf)?|math"
    r"rm|left|right|dfrac|frac|[A-E])\b|[^A-Za-z]",
    re.IGNORECASE,
)
_NUMBER = re.compile(
    r"(?<![\w.])(?:\d{1,3}(?:(?:,|\{,\}|,\\!|\\,)\d{3})+(?!\d)|\d+)(?:\.\d+)?|(?<![\w.])\.\d+"
)
_FRACTION = re.compile(
    r"(?P<whole>\d+\s*)?\\[dtc]?frac\s*(?:\{\s*(?P<a>\d+)\s*\}|(?P<b>\d))\s*"
    r"(?:\{\s*(?P<c>\d+)\s*\}|(?P<d>\d))|(?<![\w.])(?P<e>\d+)\s*/\s*(?P<f>\d+)(?!\d)"
)
_WORD = re.compile(r"\b(?:" + "|".join(NUMBER_WORDS) + r")\b", re.IGNORECASE)
# Typing habits that an answer and its mention may differ in.
_LOOSE = re.compile(r"\s+|\\(?:left|right|displaystyle)(?![A-Za-z])|\\[!,;:]|\\ |[{}$]")
_SMALL_FRACTION = re.compile(r"\\[dtc]frac")
_SIGN = re.compile(r"[-\u2212]\s*(?:\\?\$)?|\\?\$(?=[\d.])")


def find_answer_span(trace: str, answer: str) -> tuple[int, int] | None:
    r"""The characters [start, end) of a trace that give its final answer away.

    The trace's final statement is the sentence of the first mark (a box, `<answer>`, `####`, "The
    answer is") that shows the answer; of the last mark, where none is spelled like the answer; of
    the last mention of the answer, where there is no mark. A sentence that only announces the
    answer ("#### 18") is read together with the one before it, and so are sentences right before
    them that end a calculation in the answer ("= 18"). The span reaches from the earliest mention
    of the answer in them, in any spelling (1,000 and 1000.0, 7.5 and \frac{15}{2}, seven), to the
    end of the trace: what follows may repeat it.

    Args:
        trace: The solution; GSM8K's calculator marks may be in it.
        answer: The official answer, without a box.

    Returns:
        (start, end) with `end == len(trace)`, or None where the trace never states the answer.
    """
    bounds = sentence_bounds(trace)
    mark = first_mark(trace, answer)
    if mark is None:
        spoken = [b for b in bounds if next(_mentions(trace, *b, answer), None) is not None]
        if not spoken:
            return None
        first = bounds.index(spoken[-1])
    else:
        first = max(i for i, (start, _) in enumerate(bounds) if start <= mark)
    starts = [] if mark is None else [mark]
    if first > 0 and _announces_only(trace, *bounds[first], answer):
        starts += _mentions(trace, *bounds[first], answer)
        first -= 1
    starts += _mentions(trace, *bounds[first], answer)
    while first > 0:
        first -= 1
        mentions = list(_mentions(trace, *bounds[first], answer))
        if not any(_is_result(trace, mention) for mention in mentions):
            break
        starts += mentions
    return _with_sign(trace, min(starts)), len(trace)


def sentence_bounds(text: str) -> list[tuple[int, int]]:
    r"""[start, end) of every sentence, in order; together they cover the text.

    A sentence ends at . ! ? before a space, or with its line; a display (`\\[...\\]`, `$$...$$`, an
    environment) is never cut.
    """
    displays = [(match.start(), match.end()) for match in _DISPLAY.finditer(text)]
    cuts, next_display = [0], 0
    for match in _BREAK.finditer(text):
        while next_display < len(displays) and displays[next_display][1] <= match.start():
            next_display += 1
        inside = next_display < len(displays) and displays[next_display][0] < match.start()
        if not inside and match.end() < len(text):
            cuts.append(match.end())
    return list(zip(cuts, [*cuts[1:], len(text)], strict=True))


def first_mark(text: str, answer: str) -> int | None:
    """Where the answer is first marked as such; else where the last mark is; None without one."""
    marks = find_marks(text)
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


def _is_result(text: str, mention: int) -> bool:
    """Whether the mention ends a calculation."""
    return text[: _with_sign(text, mention)].endswith(("=", "= ", "≈ ", ">>"))


def _with_sign(text: str, start: int) -> int:
    """The start moved before the minus or currency sign of the number there."""
    for sign in range(max(0, start - 4), start):
        match = _SIGN.match(text, sign)
        if match and match.end() == start:
            return sign
    return start


def _mentions(text: str, start: int, end: int, answer: str) -> Iterator[int]:
    """Where a sentence names the answer, in no order; a part of a formula counts as well."""
    values = _values(answer)
    for match in _NUMBER.finditer(text, start, end):
        digits = re.sub(r"[^\d.]", "", match.group())
        if Fraction(digits.rstrip(".")) in values:
            yield match.start()
    if values:
        yield from _fraction_mentions(text, start, end, values)
        for match in _WORD.finditer(text, start, end):
            if NUMBER_WORDS.index(match.group().lower()) in values:
                yield match.start()
    yield from _literal_mentions(text, start, end, answer)


def _fraction_mentions(text: str, start: int, end: int, values: set[Fraction]) -> Iterator[int]:
    for match in _FRACTION.finditer(text, start, end):
        top = int(match["a"] or match["b"] or match["e"])
        bottom = int(match["c"] or match["d"] or match["f"])
        # 12/2 is a step on the way to 6, not a spelling of it.
        if bottom == 0 or (match["e"] and top % bottom == 0):
            continue
        value = Fraction(top, bottom)
        if value in values or int(match["whole"] or 0) + value in values:
            yield match.start()


def _literal_mentions(text: str, start: int, end: int, answer: str) -> Iterator[int]:
    """The answer as it is written, but for spaces, braces and sizes of brackets."""
    wanted = _LOOSE.sub("", _SMALL_FRACTION.sub(r"\\frac", answer))
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
    while (found := squeezed.find(wanted, found + 1)) >= 0:
        first, last = places[found], places[found + len(wanted) - 1]
        cut_before = wanted[0].isalnum() and re.match(r"[\w.]", text[max(0, first - 1) : first])
        cut_after = wanted[-1].isalnum() and re.match(r"\w|\.\d", text[last + 1 : last + 3])
        if not cut_before and not cut_after:
            yield first


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
