"""Whether a predicted answer equals the gold one: by spelling first, by mathematics next."""

import re
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from igpo_lightning.rewards.extraction import (
    STRATEGIES,
    STRATEGY_ORDER,
    Box,
    after_thinking,
    find_boxes,
    last_number,
)
from igpo_lightning.rewards.normalization import comparison_key, normalize, strip_choice
from igpo_lightning.rewards.numeric import same_numbers, value_of

# Longer texts are no answers; parsing them only costs time.
MAX_ANSWER_LENGTH = 2000
# math-verify finds the formula in a sentence; in a whole page it would find a wrong one.
_PROSE_LENGTH = 400
# Lines of which one has four words in a row are a worked solution, not an answer.
_FOUR_WORDS = re.compile(r"[A-Za-z']{2,}(?:[ ,]+[A-Za-z']{2,}){3}")
_JOINT_LENGTH = 60
_LONGEST_LIST = 50
# Single spaces only: the pattern is polynomial in runs of them.
_JOINT = re.compile(
    r"[ $.()\[\]\\+]*(?:[A-Za-z\d ()]{0,24}\b(?:and|or)|[,;&]|)"
    r"(?: ?(?:and|or))?[ $()\[\]\\]*(?:[A-Za-z](?:_\{?\w+\}?)? ?=)? ?"
)
_SPACING = re.compile(r"\\(?:quad|qquad|[,;:! ()\[\]])|\\text\s*\{|\}")
_IN_MATH = re.compile(r"(?<!\\)(?:\$|\\\(|\\\[)")
_DECIMAL_COMMA = re.compile(r"-?\d+,\d+")
_DECIMAL_POINT = re.compile(r"-?\d+\.\d+")
_LIST = re.compile(r"[,;]|\\text\s*\{\s*,?\s*(?:or|and)\s*\}|(?<![A-Za-z\\])(?:or|and)(?![A-Za-z])")
_SEVERAL = re.compile(r"\\pm|\\mp|\\cup|\\in(?![A-Za-z])|\\\{|\\[lg]eq?(?![A-Za-z])|[<>]")
_NEAR = Fraction(1, 1000)
_BASED = re.compile(r"[\dA-Z]+_\{?\d+\}?")
_RATIO = re.compile(r"\d+(?:\.\d+)?(?::\d+(?:\.\d+)?)+")
_ASSIGNED = re.compile(r"\s*([A-Za-z]\w{0,2}|\\[a-z]+)\s*=\s*(.+)", re.DOTALL)
_TUPLE = re.compile(r"\s*\$?\s*(?:\\left)?\(.*\)\s*\$?\s*", re.DOTALL)
_RELATION = re.compile(r"\\(?:[lg]eq?(?:slant)?|neq?)(?![A-Za-z])|[<>]")
_VERB = re.compile(
    r"\b(?:is|are|was|were|be|has|have|had|gets?|makes?|takes?|gives?|costs?|needs?|so|thus|hence|"
    r"therefore|equals|started|we|she|he|it|they)\b",
    re.IGNORECASE,
)
_CHOICES = re.compile(
    r"\b(?:or|either|between|not)\b|n't\b|\d[^\d.]{0,12}\band\s+[$\d]", re.IGNORECASE
)
# Evaluating these fills all memory or never ends, and no dataset's answer has one.
_EXPLODES = re.compile(
    r"\^\s*\{?[^{}^]{0,9}\^\s*\{?[^{}^]{0,9}\^|\d{4,}\s*\}?\s*!|!\s*\)*\s*!|\^\s*\{?\s*-?\d{5,}"
)


def answers_of(text: str, strategies: Sequence[str] = STRATEGY_ORDER) -> list[str]:
    r"""The answers of a plain answer or whole text that are to be compared, at least one.

    Several only where boxes stand in one enumeration ("\boxed{1} and \boxed{2}"); else the last
    box counts. Text in which no strategy but "number" finds anything is returned as it is where
    it may be a plain answer (it is short, and no solution of several lines), else its last number.
    """
    text = after_thinking(text)
    for name in strategies:
        if name == "box" and (boxes := find_boxes(text)):
            return [box.content for box in joined_boxes(text, boxes)]
        if name != "number" and (answer := STRATEGIES[name](text)) is not None:
            return [answer]
    plain = text.strip()
    if len(text) <= _PROSE_LENGTH and not ("\n" in plain and _FOUR_WORDS.search(plain)):
        return [plain]
    return [(last_number(text) if "number" in strategies else None) or ""]


def answer_of(text: str, strategies: Sequence[str] = STRATEGY_ORDER) -> str:
    """The answers of a text as one short text that has the same answers."""
    answers = answers_of(text, strategies)
    if len(answers) == 1:
        return answers[0]
    return ", ".join(f"\\boxed{{{answer}}}" for answer in answers)


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
        wanted, answers = ", ".join(answers_of(gold)), answers_of(prediction)
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
    if key and (gold_key == key or _same_value(gold_key, key)):
        return True
    # 75% is 0.75 as well, where only one of the two is written in percent.
    if ("%" in normalize(gold_value)) != ("%" in normalize(value)):
        one, other = value_of(gold_key), value_of(key)
        if one is not None and other is not None:
            in_percent, plain = (one, other) if "%" in gold_value else (other, one)
            return in_percent == 100 * plain
    # In a multiple-choice answer the letter alone says it all.
    return (gold_label is not None and key == gold_label) or (
        label is not None and gold_key == label
    )


def are_other_numbers(gold: str, prediction: str) -> bool:
    """Whether two plain answers are numbers that lie apart: no other spelling can make them equal.

    Fast, and safe on any text, like `is_same_spelling`, which is to be asked first.
    """
    if max(len(gold), len(prediction)) > MAX_ANSWER_LENGTH:
        return False
    one, other = value_of(comparison_key(gold)), value_of(comparison_key(prediction))
    if one is None or other is None:
        return False
    # Closer numbers may be one number at two precisions, which math-verify decides.
    return abs(one - other) > _NEAR * max(abs(one), abs(other))


def _same_value(gold_key: str, key: str) -> bool:
    """Whether two keys are the same numbers, or lists of the same answers in any order."""
    gold_value, value = value_of(gold_key), value_of(key)
    if gold_value is not None and gold_value == value:
        return True
    if same_numbers(gold_key, key):
        return True
    gold_named, named = _assignments(gold_key), _assignments(key)
    if gold_named and named:
        return {n: comparison_key(v) for n, v in gold_named.items()} == {
            n: comparison_key(v) for n, v in named.items()
        }
    gold_parts, parts = _top_level_parts(gold_key), _top_level_parts(key)
    if len(gold_parts) != len(parts) or len(parts) == 1:
        return False
    return Counter(map(comparison_key, gold_parts)) == Counter(map(comparison_key, parts))


def joined_boxes(text: str, boxes: list[Box]) -> list[Box]:
    """The last box with the boxes before it that are joined to it by "and", "or" or a comma."""
    chain = [boxes[-1]]
    for box in reversed(boxes[-_LONGEST_LIST:-1]):
        between = text[box.end : min(chain[-1].start, box.end + _JOINT_LENGTH + 1)]
        if len(between) > _JOINT_LENGTH:
            break
        if not _JOINT.fullmatch(" ".join(_SPACING.sub(" ", between).split())):
            break
        chain.append(box)
    return chain[::-1]


def _is_same(gold: str, prediction: str) -> bool:
    if is_same_spelling(gold, prediction):
        return True
    if are_other_numbers(gold, prediction):
        return False
    gold, prediction = strip_choice(gold)[1], strip_choice(prediction)[1]
    if max(len(gold), len(prediction)) > MAX_ANSWER_LENGTH or _lists_more(gold, prediction):
        return False
    if _EXPLODES.search(gold) or _EXPLODES.search(prediction) or _bases_differ(gold, prediction):
        return False
    if (named := _assignments(gold)) is not None:
        others = _assignments(prediction)
        if others is not None and named.keys() == others.keys():
            return all(_is_same(value, others[name]) for name, value in named.items())
        if _TUPLE.fullmatch(prediction):
            return _is_same(f"({', '.join(named.values())})", prediction)
    if _ratios_differ(gold, prediction) or _bound_for_value(gold, prediction):
        return False
    gold, prediction = _both_signs(gold), _both_signs(prediction)
    if _DECIMAL_COMMA.fullmatch(prediction) and _DECIMAL_POINT.fullmatch(gold):
        prediction = prediction.replace(",", ".")
    elif _DECIMAL_COMMA.fullmatch(gold) and _DECIMAL_POINT.fullmatch(prediction):
        gold = gold.replace(",", ".")
    if _verify(_parse(gold), _parse(prediction)):
        return True
    plain_gold, plain_prediction = normalize(gold), normalize(prediction)
    if (plain_gold, plain_prediction) != (gold, prediction) and _verify(
        _parse(plain_gold), _parse(plain_prediction)
    ):
        return True
    if _is_prose(prediction) and not _is_prose(gold):
        return _is_same(gold, last_number(prediction) or "")
    return False


def _is_prose(answer: str) -> bool:
    """Whether a sentence with a verb holds the answer, and offers no choice of several."""
    return bool(_VERB.search(answer)) and not _CHOICES.search(answer)


def _bases_differ(gold: str, prediction: str) -> bool:
    r"""Whether both are numerals with a base, and differ: math-verify reads 12_8 as it reads 12_9.

    The numeral itself is compared: where a base is asked for, 14_8 is no answer for 12_{10}.
    """
    keys = comparison_key(gold), comparison_key(prediction)
    return keys[0] != keys[1] and all(_BASED.fullmatch(key) for key in keys)


def _assignments(answer: str) -> dict[str, str] | None:
    """`x = 1, y = 2` as values by name; None for anything else, `x = 1, x = 2` included."""
    pairs = [_ASSIGNED.fullmatch(part) for part in _top_level_parts(answer)]
    named = {pair[1]: pair[2] for pair in pairs if pair is not None}
    return named if len(named) == len(pairs) > 1 else None


def _ratios_differ(gold: str, prediction: str) -> bool:
    """Whether both are ratios, and not proportional: math-verify ignores the order."""
    keys = comparison_key(gold), comparison_key(prediction)
    if not all(_RATIO.fullmatch(key) for key in keys):
        return False
    one, other = ([Fraction(part) for part in key.split(":")] for key in keys)
    return len(one) != len(other) or any(
        a * other[0] != b * one[0] for a, b in zip(one, other, strict=True)
    )


def _bound_for_value(gold: str, prediction: str) -> bool:
    r"""Whether one side is a bare bound, `\ge 5`, and the other has no relation: not 5 itself."""
    texts = normalize(gold), normalize(prediction)
    return any(_RELATION.match(text) for text in texts) and not all(
        _RELATION.search(text) for text in texts
    )


def _both_signs(answer: str) -> str:
    r"""`\frac{1\pm\sqrt5}{2}` as its two values in a list; math-verify reads outer signs alone."""
    before, sign, after = answer.partition(r"\pm")
    if not sign or r"\pm" in after or not re.search(r"[({]", before):
        return answer
    return f"{before}+{after}, {before}-{after}"


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
