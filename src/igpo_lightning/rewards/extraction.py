"""The final answer of a text: boxes, tags, `####`, "The answer is", at last any number.

Every pattern here is linear in the text, because the text is whatever a model wrote.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from igpo_lightning.settings.reward import EXTRACTION

# Escaped braces are not structure; both box commands open a group like any brace.
_BRACES = re.compile(r"\\[{}]|(?<=\\)(?:boxed|fbox)[ \t]*\{|[{}]")
_TAG = re.compile(r"<(/?)answer>", re.IGNORECASE)
_HASH = re.compile(r"####[ \t]{0,9}([-+]?\$?\.?\d[\d,./]*%?)[ \t]{0,9}$", re.MULTILINE)
_STATED = re.compile(r"\banswer(?:\*\*)?(?:[ \t]+is(?![a-z])|[ \t]*[:=])[ \t]*:?", re.IGNORECASE)
_MATH = re.compile(r"\$\$([^$]+)\$\$|\$([^$\n]+)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
_SENTENCE_END = re.compile(r"[.!?][*_\"')]*(?=\s|$)|\n|<")
_NUMBER = re.compile(
    r"(?<![A-Za-z\d_.])-?(?:\\[dt]?frac\{-?\d+\}\{\d+\}|"
    r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?(?:/\d+)?|\.\d+)"
)
_UNITS = re.compile(r"([-+]?\$?[\d.,/]*\d)(%?)\s+[A-Za-z][A-Za-z\s'-]*$")
_QUOTED = re.compile(
    r"final answer(?: is)?[ \t]*:?[ \t]*(?:the final answer is[ \t]*)?([^\n]{1,200}?)[ .]*"
    r"I hope (?:it|this) is correct",
    re.IGNORECASE,
)
# Formulas of prose; bounded, because every opening sign of a hostile text is tried.
_FORMULA = re.compile(
    r"\$\$[^$]{1,400}\$\$|\$[^$\n]{1,400}\$|\\\(.{1,400}?\\\)|\\\[.{1,400}?\\\]", re.DOTALL
)
# How far back dollar signs are paired, in characters.
_LINE_LIMIT = 2000
# More than this after "The answer is" is an explanation, not an answer.
_STATED_LIMIT = 400


@dataclass(frozen=True)
class Box:
    r"""One complete `\boxed{...}` or `\fbox{...}`.

    Attributes:
        start: Index of the command's backslash.
        end: One past the closing brace.
        content: What stands inside, stripped; a box inside a box is unwrapped.
    """

    start: int
    end: int
    content: str


def find_boxes(text: str) -> list[Box]:
    """All complete boxes that hold something, by their end; unfinished ones are skipped."""
    boxes: list[Box] = []
    open_groups: list[tuple[int, int] | None] = []
    for match in _BRACES.finditer(text):
        token = match.group()
        if token.startswith("\\"):
            continue
        if token == "{":
            open_groups.append(None)
        elif token != "}":
            open_groups.append((match.start() - 1, match.end()))
        elif open_groups:
            group = open_groups.pop()
            if group is None:
                continue
            start, inside = group
            content = text[inside : match.start()].strip()
            # An inner box was just closed: its content is the answer, the outer one is paint.
            if boxes and boxes[-1].start >= inside and content == _source(text, boxes[-1]):
                content = boxes.pop().content
            if content:
                boxes.append(Box(start, match.end(), content))
    return boxes


def _source(text: str, box: Box) -> str:
    return text[box.start : box.end]


def boxed_answer(text: str) -> str | None:
    r"""The content of the last complete `\boxed{...}` or `\fbox{...}`."""
    boxes = find_boxes(text)
    return boxes[-1].content if boxes else None


def first_box(text: str) -> str | None:
    r"""The content of the complete `\boxed{...}` that begins first."""
    boxes = find_boxes(text)
    return min(boxes, key=lambda box: box.start).content if boxes else None


def tagged_answer(text: str) -> str | None:
    """The text between the last `<answer>` and the `</answer>` that closes it."""
    content: str | None = None
    inside: int | None = None
    for match in _TAG.finditer(text):
        if not match.group(1):
            inside = match.end()
        elif inside is not None:
            content = _strip_math(text[inside : match.start()]) or content
            inside = None
    return content


def hash_answer(text: str) -> str | None:
    """The number after the last `####`, as GSM8K ends its solutions, without thousands commas."""
    answer = None
    for match in _HASH.finditer(text):
        answer = match.group(1).replace(",", "")
    return answer


def stated_answer(text: str) -> str | None:
    """What the last "The answer is ..." or "answer: ..." says, to the end of its sentence."""
    ends = [match.end() for match in _STATED.finditer(text)]
    return _statement(text, ends[-1]) if ends else None


def _statement(text: str, start: int) -> str | None:
    """The answer that a statement's words before `start` announce."""
    rest = text[start : start + _STATED_LIMIT].lstrip(" \t\n*:}")  # \text{Answer: }
    math = _MATH.match(rest)
    # "$5 and $6" are prices, not one formula: a formula does not end with a space.
    if math and not (math.group(2) or "x")[-1].isspace():
        return _strip_math(math.group()) or None
    end = _SENTENCE_END.search(rest)
    sentence = _strip_math((rest[: end.start()] if end else rest).strip(" \t*"))
    units = _UNITS.match(sentence)
    if units and not re.search(r"\b(?:or|and|to)\b", sentence):
        return units.group(1) + units.group(2)
    return sentence or None


def find_marks(text: str) -> list[tuple[int, str]]:
    """Every place that says "here is the answer": (its first character, the answer), in order.

    Boxes, `<answer>` tags, `#### N`, "The answer is ..." and "answer: ...".
    """
    marks = [(box.start, box.content) for box in find_boxes(text)]
    opened: re.Match[str] | None = None
    for tag in _TAG.finditer(text):
        if not tag.group(1):
            opened = tag
        elif opened is not None:
            marks.append((opened.start(), _strip_math(text[opened.end() : tag.start()])))
            opened = None
    marks += [(match.start(), match.group(1)) for match in _HASH.finditer(text)]
    for match in _STATED.finditer(text):
        marks.append((match.start(), _statement(text, match.end()) or ""))
    return sorted(marks)


def quoted_answer(text: str) -> str | None:
    """What the last "final answer is ... I hope it is correct" says (arXiv 2206.14858's form)."""
    answer = None
    for match in _QUOTED.finditer(text) if "I hope" in text else ():
        answer = _strip_math(match.group(1).strip(" .")) or answer
    return answer


def last_number(text: str) -> str | None:
    """The last number, or the formula it ends: a fraction, a pair, the right side of an equation.

    A number inside a word does not count.
    """
    number = None
    for match in _NUMBER.finditer(text):
        number = match
    if number is None:
        return None
    line = text.rfind("\n", max(0, number.start() - _LINE_LIMIT), number.start()) + 1
    for formula in _FORMULA.finditer(text, max(line, number.start() - _LINE_LIMIT)):
        if formula.start() < number.start() < formula.end():
            side = _strip_math(formula.group()).rpartition("=")[2].strip()
            return side if re.search(r"\d", side) and len(side) > 1 else number.group()
    return number.group()


def after_thinking(text: str) -> str:
    """What follows the last `</think>`; the whole text where nothing does."""
    rest = text.rpartition("</think>")[2]
    return rest if rest.strip() else text


STRATEGIES: dict[str, Callable[[str], str | None]] = {
    "quoted": quoted_answer,
    "box": boxed_answer,
    "tag": tagged_answer,
    "hash": hash_answer,
    "stated": stated_answer,
    "number": last_number,
    "first_box": first_box,  # asked for by name alone (the paper's released code)
}
# The first that finds something decides.
STRATEGY_ORDER = EXTRACTION


def extract_answer(text: str, strategies: Sequence[str] = STRATEGY_ORDER) -> str | None:
    r"""The final answer of a completion or a reference solution, or None.

    By default in this order: the last "final answer is ... I hope it is correct"; the last
    complete `\boxed{...}` or `\fbox{...}` (also inside `<answer>`); the last
    `<answer>...</answer>`; the last `#### N`; the last "The answer is ..." or "answer: ..."; the
    last number. What stands before a closing `</think>` does not count. Nothing is normalised but
    surrounding spaces and math delimiters. Never raises for a text; takes linear time.

    Args:
        text: Anything.
        strategies: Names from `STRATEGIES`, first come first served.
    """
    text = after_thinking(text)
    for name in strategies:
        answer = STRATEGIES[name](text)
        if answer is not None:
            return answer
    return None


def _strip_math(text: str) -> str:
    """Without surrounding spaces and one pair of math delimiters around the whole."""
    text = text.strip()
    math = _MATH.fullmatch(text)
    if math and not (math.group(2) or "x")[-1].isspace():
        return next(group for group in math.groups() if group is not None).strip()
    return text
