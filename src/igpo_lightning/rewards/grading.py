"""Whether a predicted answer equals the gold one: by spelling first, by mathematics next."""

import re
from typing import Any

from igpo_lightning.rewards.extraction import Box, find_boxes, last_number, marked_answer
from igpo_lightning.rewards.normalization import comparison_key, normalize, strip_choice

# Longer texts are no answers; parsing them only costs time.
MAX_ANSWER_LENGTH = 2000
# math-verify finds the formula in a sentence; in a whole page it would find a wrong one.
_PROSE_LENGTH = 400
_JOINT = re.compile(
    r"[\s$.()\[\]\\+]*(?:[A-Za-z\d\s()]{0,24}\b(?:and|or)|[,;&]|)"
    r"(?:\s*(?:and|or))?[\s$()\[\]\\]*(?:[A-Za-z](?:_\{?\w+\}?)?\s*=)?\s*"
)
_SPACING = re.compile(r"\\(?:quad|qquad|[,;:! ()\[\]])|\\text\s*\{|\}")
_IN_MATH = re.compile(r"(?<!\\)(?:\$|\\\(|\\\[)")
_DECIMAL_COMMA = re.compile(r"-?\d+,\d+")
_DECIMAL_POINT = re.compile(r"-?\d+\.\d+")
_LIST = re.compile(r"[,;]|\\text\s*\{\s*,?\s*(?:or|and)\s*\}|(?<![A-Za-z\\])(?:or|and)(?![A-Za-z])")
_SEVERAL = re.compile(r"\\pm|\\mp|\\cup|\\in(?![A-Za-z])|\\\{|\\[lg]eq?(?![A-Za-z])|[<>]")
# Evaluating these fills all memory or never ends, and no dataset's answer has one.
_EXPLODES = re.compile(
    r"\^\s*\{?[^{}^]{0,9}\^\s*\{?[^{}^]{0,9}\^|\d{4,}\s*\}?\s*!|!\s*\)*\s*!|\^\s*\{?\s*-?\d{5,}"
)


def answers_of(text: str) -> list[str]:
    r"""The answers of a plain answer or whole text that are to be compared, at least one.

    Several only where boxes stand in one enumeration ("\boxed{1} and \boxed{2}"); else the last
    box counts. Text without box, tags or marker is returned as it is while it is short,
    else its last number.
    """
    boxes = find_boxes(text)
    if boxes:
        return [box.content for box in joined_boxes(text, boxes)]
    marked = marked_answer(text)
    if marked is None and len(text) > _PROSE_LENGTH:
        return [last_number(text) or ""]
    return [marked or text.strip()]


def answer_of(text: str) -> str:
    """The answers of a text as one list."""
    return ", ".join(answers_of(text))


def is_equivalent(gold: str, prediction: str) -> bool:
    """Whether a prediction gives the gold answer.

    Args:
        gold: The right answer, plain or as a whole solution; it sets the form (a bare value for
            "x = 5" is fine, a bare value for the equation "2x + y = 5" is not).
        prediction: A plain answer or a whole completion. A list of answers does not equal a
            single gold answer, even where it holds it.

    Returns:
        True where both are the same by spelling (see `comparison_key`) or by math-verify.
        Never raises. There is no time limit: text from a model goes through `GradingPool`.
    """
    try:
        wanted, answers = answer_of(gold), answers_of(prediction)
        if _is_same(wanted, ", ".join(answers)):
            return True
        # The same value in two forms: "\boxed{7/2}, or \boxed{3.5}".
        return len(answers) > 1 and all(_is_same(wanted, answer) for answer in answers)
    except Exception:  # sympy raises almost anything on odd input: such an answer is not right
        return False


def is_same_spelling(gold: str, prediction: str) -> bool:
    """The exact path of `is_equivalent` for two plain answers: fast, and safe on any text."""
    if max(len(gold), len(prediction)) > MAX_ANSWER_LENGTH:
        return False
    gold_label, gold_value = strip_choice(gold)
    label, value = strip_choice(prediction)
    gold_key, key = comparison_key(gold_value), comparison_key(value)
    if key and gold_key == key:
        return True
    # In a multiple-choice answer the letter alone says it all.
    return (gold_label is not None and key == gold_label) or (
        label is not None and gold_key == label
    )


def joined_boxes(text: str, boxes: list[Box]) -> list[Box]:
    """The last box with the boxes before it that are joined to it by "and", "or" or a comma."""
    chain = [boxes[-1]]
    for box in reversed(boxes[:-1]):
        between = text[box.end : chain[0].start]
        if len(between) > 60 or not _JOINT.fullmatch(_SPACING.sub(" ", between)):
            break
        chain.insert(0, box)
    return chain


def _is_same(gold: str, prediction: str) -> bool:
    if is_same_spelling(gold, prediction):
        return True
    gold, prediction = strip_choice(gold)[1], strip_choice(prediction)[1]
    if max(len(gold), len(prediction)) > MAX_ANSWER_LENGTH or _lists_more(gold, prediction):
        return False
    if _EXPLODES.search(gold) or _EXPLODES.search(prediction):
        return False
    if _DECIMAL_COMMA.fullmatch(prediction) and _DECIMAL_POINT.fullmatch(gold):
        prediction = prediction.replace(",", ".")
    elif _DECIMAL_COMMA.fullmatch(gold) and _DECIMAL_POINT.fullmatch(prediction):
        gold = gold.replace(",", ".")
    if _verify(_parse(gold), _parse(prediction)):
        return True
    plain_gold, plain_prediction = normalize(gold), normalize(prediction)
    if (plain_gold, plain_prediction) == (gold, prediction):
        return False
    return _verify(_parse(plain_gold), _parse(plain_prediction))


def _lists_more(gold: str, prediction: str) -> bool:
    """Whether the prediction lists several different answers where the gold is a single one."""
    if _SEVERAL.search(gold) or len(_top_level_parts(gold)) > 1:
        return False
    keys = {comparison_key(part) for part in _top_level_parts(prediction)}
    return len(keys - {""}) > 1 and comparison_key(gold) in keys


def _top_level_parts(answer: str) -> list[str]:
    """The answer cut at commas, "and", "or" that are outside all brackets."""
    answer = normalize(answer)
    depth, depths = 0, []
    for character in answer:
        depth += (character in "([{") - (character in ")]}")
        depths.append(depth)
    parts, start = [], 0
    for match in _LIST.finditer(answer):
        if depths[match.start()] == 0:
            parts.append(answer[start : match.start()])
            start = match.end()
    return [*parts, answer[start:]]


def _parse(answer: str) -> list[Any]:
    """math-verify's reading of one answer; its own time limit needs signals, so it is off."""
    import math_verify.parser

    math_verify.parser.TIMEOUT_WARNING_SHOWN = True
    if not _IN_MATH.search(answer):
        answer = f"\\boxed{{{answer}}}"
    return list(math_verify.parser.parse(answer, parsing_timeout=None))


def _verify(gold: list[Any], prediction: list[Any]) -> bool:
    import math_verify.grader

    math_verify.grader.TIMEOUT_WARNING_SHOWN = True
    return bool(math_verify.grader.verify(gold, prediction, timeout_seconds=None))
