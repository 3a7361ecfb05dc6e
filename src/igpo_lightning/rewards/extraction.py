"""The final answer of a text: boxes, tags, `####`, "The answer is", at last any number.

Every pattern here is linear in the text, because the text is whatever a model wrote.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from igpo_lightning.rewards.stated_number import stated_number
from igpo_lightning.settings.reward import EXTRACTION

# Escaped braces are not structure; both box commands open a group like any brace.
_BRACES = re.compile(r"\\[{}]|(?<=\\)(?:boxed|fbox)[ \t]*\{|[{}]")
_TAG = re.compile(r"<(/?)answer>", re.IGNORECASE)
_HASH = re.compile(r"####[ \t]{0,9}([-+]?\$?\.?\d[\d,./]*%?)[ \t]{0,9}$", re.MULTILINE)
_STATED = re.compile(r"\banswer(?:\*\*)?(?:[ \t]+is(?![a-z])|[ \t]*[:=])[ \t]*:?", re.IGNORECASE)
_MATH = re.compile(r"\$\$([^$]+)\$\$|\$([^$\n]+)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
_SENTENCE_END = re.compile(r"[.!?][*_\"')]*(?=\s|$)|\n|<")
_UNITS = re.compile(r"([-+]?\$?[\d.,/]*\d)(%?)\s+[A-Za-z][A-Za-z\s'-]*$")
_QUOTED = re.compile(
    r"final answer(?: is)?[ \t]*:?[ \t]*(?:the final answer is[ \t]*)?([^\n]{1,200}?)[ .]*"
    r"I hope (?:it|this) is correct",
    re.IGNORECASE,
)
# More than this after "The answer is" is an explanation, not an answer.
_STATED_LIMIT = 400


@dataclass(frozen=True)
class Found:
    """An answer and where it stands: `text[start:end]` holds it, but for thousands commas."""

    answer: str
    start: int
    end: int


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
            inner = boxes[-1] if boxes and boxes[-1].start >= inside else None
            if inner is not None and content == text[inner.start : inner.end]:
                content = boxes.pop().content
            if content:
                boxes.append(Box(start, match.end(), content))
    return boxes


def _find_box(text: str) -> Found | None:
    r"""The content of the last complete `\boxed{...}` or `\fbox{...}`."""
    boxes = find_boxes(text)
    return _content_of(text, boxes[-1]) if boxes else None


def _find_first_box(text: str) -> Found | None:
    r"""The content of the complete `\boxed{...}` that begins first."""
    boxes = find_boxes(text)
    return _content_of(text, min(boxes, key=lambda box: box.start)) if boxes else None


def _content_of(text: str, box: Box) -> Found:
    start = text.rindex(box.content, box.start, box.end)  # only braces and spaces follow it
    return Found(box.content, start, start + len(box.content))


def _find_tag(text: str) -> Found | None:
    """The text between the last `<answer>` and the `</answer>` that closes it."""
    found: Found | None = None
    inside: int | None = None
    for match in _TAG.finditer(text):
        if not match.group(1):
            inside = match.end()
        elif inside is not None:
            content = _strip_math(text[inside : match.start()])
            if content:
                found = _within(text, content, inside)
            inside = None
    return found


def _find_hash(text: str) -> Found | None:
    """The number after the last `####`, as GSM8K ends its solutions, without thousands commas."""
    found = None
    for match in _HASH.finditer(text):
        found = Found(match.group(1).replace(",", ""), match.start(1), match.end(1))
    return found


def _find_stated(text: str) -> Found | None:
    """What the last "The answer is ..." or "answer: ..." says, to the end of its sentence."""
    ends = [match.end() for match in _STATED.finditer(text)]
    answer = _statement(text, ends[-1]) if ends else None
    return None if answer is None else _within(text, answer, ends[-1])


def _within(text: str, answer: str, start: int) -> Found:
    """An answer that was cut out of the text somewhere after `start`."""
    start = text.index(answer, start)
    return Found(answer, start, start + len(answer))


def _answer_of(found: Found | None) -> str | None:
    return None if found is None else found.answer


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


def _find_quoted(text: str) -> Found | None:
    """What the last "final answer is ... I hope it is correct" says (arXiv 2206.14858's form)."""
    found = None
    for match in _QUOTED.finditer(text) if "I hope" in text else ():
        answer = _strip_math(match.group(1).strip(" ."))
        if answer:
            found = _within(text, answer, match.start(1))
    return found


def _find_number(text: str) -> Found | None:
    found = stated_number(text, _strip_math)
    return None if found is None else Found(*found)


def last_number(text: str) -> str | None:
    """The last number that is stated, or the formula it ends; see `stated_number`."""
    return _answer_of(_find_number(text))


def after_thinking(text: str) -> str:
    """What follows the last `</think>`; the whole text where nothing does."""
    rest = text.rpartition("</think>")[2]
    return rest if rest.strip() else text


_FINDERS: dict[str, Callable[[str], Found | None]] = {
    "quoted": _find_quoted,
    "box": _find_box,
    "tag": _find_tag,
    "hash": _find_hash,
    "stated": _find_stated,
    "number": _find_number,
    "first_box": _find_first_box,  # asked for by name alone (the paper's released code)
}
# The first that finds something decides.
STRATEGY_ORDER = EXTRACTION


def locate_answer(text: str, strategies: Sequence[str] = STRATEGY_ORDER) -> Found | None:
    """`extract_answer` with the place of the answer in the text.

    Args:
        text: Anything.
        strategies: Names from `STRATEGIES`, first come first served.
    """
    rest = after_thinking(text)
    skipped = len(text) - len(rest)
    for name in strategies:
        found = _FINDERS[name](rest)
        if found is not None:
            return Found(found.answer, skipped + found.start, skipped + found.end)
    return None


STRATEGIES: dict[str, Callable[[str], str | None]] = {
    name: lambda text, find=find: _answer_of(find(text))  # type: ignore[misc]
    for name, find in _FINDERS.items()
}


def extract_answer(text: str, strategies: Sequence[str] = STRATEGY_ORDER) -> str | None:
    r"""The final answer of a completion or a reference solution, or None.

    By default in this order: the last "final answer is ... I hope it is correct"; the last
    complete `\boxed{...}` or `\fbox{...}` (also inside `<answer>`); the last
    `<answer>...</answer>`; the last `#### N`; the last "The answer is ..." or "answer: ..."; the
    last number that is stated. What stands before a closing `</think>` does not count. Nothing is
    normalised but surrounding spaces and math delimiters. Never raises for a text; takes linear
    time.

    Args:
        text: Anything.
        strategies: Names from `STRATEGIES`, first come first served.
    """
    return _answer_of(locate_answer(text, strategies))


def _strip_math(text: str) -> str:
    """Without surrounding spaces and one pair of math delimiters around the whole."""
    text = text.strip()
    math = _MATH.fullmatch(text)
    if math and not (math.group(2) or "x")[-1].isspace():
        return next(group for group in math.groups() if group is not None).strip()
    return text
