"""Whether a predicted answer equals the gold one: by spelling first, by mathematics next."""

import re
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from igpo_lightning.rewards.contradictions import (
    assignments,
    contradicts,
    contradicts_relation,
    lists_more,
    top_level_parts,
)
from igpo_lightning.rewards.extraction import (
    STRATEGIES,
    STRATEGY_ORDER,
    Box,
    after_thinking,
    find_boxes,
    last_number,
)
from igpo_lightning.rewards.normalization import (
    as_formula,
    comparison_key,
    normalize,
    strip_braces,
    strip_choice,
)
from igpo_lightning.rewards.numeric import same_numbers, value_of

# Longer texts are no answers; parsing them only costs time.
MAX_ANSWER_LENGTH = 2000
# math-verify finds the formula in a sentence; in a whole page it would find a wrong one.
_PROSE_LENGTH = 400
# Lines of which one has four words in a row are a worked solution, not an answer.
_FOUR_WORDS = re.compile(r"[A-Za-z']{2,}(?:[ ,]+[A-Za-z']{2,}){3}")
_WORDS = re.compile(r"(?<![A-Za-z\\{])[A-Za-z]{2,}(?![A-Za-z(])")
_OPEN_SUM = re.compile(r"=[ \t$]*(?:\n|$|[A-Za-z]{2})")
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
_NEAR = Fraction(1, 1000)
_TUPLE = re.compile(r"\s*\$?\s*(?:\\left)?\(.*\)\s*\$?\s*", re.DOTALL)
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


def is_plain(text: str) -> bool:
    """Whether a text may be an answer as it stands: no sentence, and no sum left open."""
    if find_boxes(text):  # inside a quotation
        return True
    return len(_WORDS.findall(text)) < 2 and not _OPEN_SUM.search(text)


def is_same_spelling(gold: str, prediction: str) -> bool:
    """The exact path of `is_equivalent` for two plain answers: fast, and safe on any text."""
    if max(len(gold), len(prediction)) > MAX_ANSWER_LENGTH:
        return False
    if _is_spelled(gold, prediction):
        return not contradicts(gold, prediction)
    bare = strip_braces(gold), strip_braces(prediction)
    return bare != (gold, prediction) and _is_spelled(*bare) and not contradicts(*bare)


def _is_spelled(gold: str, prediction: str) -> bool:
    """`is_same_spelling` but for pairs of braces around the whole, and for contradictions."""
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
    gold_named, named = assignments(gold_key), assignments(key)
    if gold_named and named:
        return {n: comparison_key(v) for n, v in gold_named.items()} == {
            n: comparison_key(v) for n, v in named.items()
        }
    gold_parts, parts = top_level_parts(gold_key), top_level_parts(key)
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
    if _is_same_as_written(gold, prediction):
        return True
    # Braces around the whole are a set in "{58, 500}" and nothing in "{58,500}".
    bare = strip_braces(gold), strip_braces(prediction)
    return bare != (gold.strip(), prediction.strip()) and _is_same_as_written(*bare)


def _is_same_as_written(gold: str, prediction: str) -> bool:
    if is_same_spelling(gold, prediction):
        return True
    if are_other_numbers(gold, prediction):
        return False
    # A number is the answer of a sentence where that states it, not where a sum comes to it.
    sentence = value_of(comparison_key(gold)) is not None and not is_plain(prediction)
    if sentence and not is_same_spelling(gold, last_number(prediction) or ""):
        return False
    gold, prediction = strip_choice(gold)[1], strip_choice(prediction)[1]
    if max(len(gold), len(prediction)) > MAX_ANSWER_LENGTH or lists_more(gold, prediction):
        return False
    if _EXPLODES.search(gold) or _EXPLODES.search(prediction) or contradicts(gold, prediction):
        return False
    if (named := assignments(gold)) is not None:
        others = assignments(prediction)
        if others is not None and named.keys() == others.keys():
            return all(_is_same(value, others[name]) for name, value in named.items())
        if _TUPLE.fullmatch(prediction):
            return _is_same(f"({', '.join(named.values())})", prediction)
    if contradicts_relation(gold, prediction):
        return False
    gold, prediction = _both_signs(gold), _both_signs(prediction)
    if _DECIMAL_COMMA.fullmatch(prediction) and _DECIMAL_POINT.fullmatch(gold):
        prediction = prediction.replace(",", ".")
    elif _DECIMAL_COMMA.fullmatch(gold) and _DECIMAL_POINT.fullmatch(prediction):
        gold = gold.replace(",", ".")
    if _verify(_parse(gold), _parse(prediction)):
        return True
    plain_gold, plain_prediction = as_formula(normalize(gold)), as_formula(normalize(prediction))
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


def _both_signs(answer: str) -> str:
    r"""`\frac{1\pm\sqrt5}{2}` as its two values in a list; math-verify reads outer signs alone."""
    before, sign, after = answer.partition(r"\pm")
    if not sign or r"\pm" in after or not re.search(r"[({]", before):
        return answer
    return f"{before}+{after}, {before}-{after}"


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
