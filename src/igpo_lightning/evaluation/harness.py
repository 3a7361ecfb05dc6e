"""GSM8K as lm-evaluation-harness scores it, for comparison with numbers that were made there.

The rules are those of its task `gsm8k`, version 3: two ways to find an answer, and one comparison.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

NO_ANSWER = "[invalid]"
_STRICT = re.compile(r"#### (-?[0-9.,]+)")
_FLEXIBLE = re.compile(r"-?[$0-9.,]{2,}|-?[0-9]+")
# Taken out of both sides in this order: separators, currency, the way to the answer, a full stop.
_IGNORED = tuple(re.compile(pattern) for pattern in (",", r"\$", r"(?s).*#### ", r"\.$"))


def strict_match(text: str) -> str:
    """The first number after "#### "."""
    found = _STRICT.search(text)
    return found.group(1) if found else NO_ANSWER


def flexible_extract(text: str) -> str:
    """The last number, with its currency sign, separators and full stops."""
    found = _FLEXIBLE.findall(text)
    return str(found[-1]) if found else NO_ANSWER


def _compared(text: str) -> str:
    for pattern in _IGNORED:
        text = pattern.sub("", text)
    return text.lower()


def harness_score(gold: str, text: str) -> tuple[bool, bool]:
    """Whether a completion is right by strict-match, and by flexible-extract.

    `gold` is the answer, or the official solution that ends with it after "#### ".
    """
    wanted = _compared(gold)
    return _compared(strict_match(text)) == wanted, _compared(flexible_extract(text)) == wanted


def harness_summary(samples: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """What the harness would report of evaluation records, and how often our grader says the same.

    Args:
        samples: At least one, with `answer`, `completion` and `correct`.

    Returns:
        `strict_match` and `flexible_extract`: shares of right samples; `agreement`: share of
        samples with one verdict by flexible-extract and by our grader.
    """
    rows = [(*harness_score(s["answer"], s["completion"]), bool(s["correct"])) for s in samples]
    count = len(rows)
    return {
        "strict_match": sum(strict for strict, _, _ in rows) / count,
        "flexible_extract": sum(flexible for _, flexible, _ in rows) / count,
        "agreement": sum(flexible == correct for _, flexible, correct in rows) / count,
    }
