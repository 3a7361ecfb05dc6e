"""What makes two answers different whatever their numbers are: base, unit, name, order, denial.

math-verify ignores most of these, and so does `comparison_key`; both ask here.
"""

import re
from fractions import Fraction

from igpo_lightning.rewards.normalization import (
    comparison_key,
    inside_brackets,
    normalize,
    unit_of,
)
from igpo_lightning.rewards.numeric import value_of

_LIST = re.compile(r"[,;]|\\text\s*\{\s*,?\s*(?:or|and)\s*\}|(?<![A-Za-z\\])(?:or|and)(?![A-Za-z])")
_SEVERAL = re.compile(r"\\pm|\\mp|\\cup|\\in(?![A-Za-z])|\\\{|\\[lg]eq?(?![A-Za-z])|[<>]")
_BASED = re.compile(r"[\dA-Z]+_\{?\d+\}?")
_RATIO = re.compile(r"\d+(?:\.\d+)?(?::\d+(?:\.\d+)?)+")
_ASSIGNED = re.compile(r"\s*([A-Za-z]\w{0,2}|\\[a-z]+)\s*=\s*(.+)", re.DOTALL)
_RELATION = re.compile(r"\\(?:[lg]eq?(?:slant)?|neq?)(?![A-Za-z])|[<>]")
_TEN = re.compile(r"_(?:10|\{10\})$")
# Units by their short names: of two different ones here, neither can stand for the other.
_SHORT_UNITS = {
    **{
        f"{prefix}{unit}": f"{prefix}{unit}"
        for prefix in ("", "m", "c", "d", "k")
        for unit in "mgl"
    },
    **{
        f"{prefix}{unit}{s}": f"{prefix[:1]}{unit[:1]}"
        for prefix in ("", "milli", "centi", "deci", "kilo")
        for unit in ("meter", "metre", "gram", "liter", "litre")
        for s in ("", "s")
    },
    **dict.fromkeys(("in", "inch", "inches"), "in"),
    **dict.fromkeys(("ft", "foot", "feet"), "ft"),
    **dict.fromkeys(("yd", "yard", "yards"), "yd"),
    **dict.fromkeys(("mi", "mile", "miles"), "mi"),
    **dict.fromkeys(("s", "sec", "second", "seconds"), "s"),
    **dict.fromkeys(("min", "minute", "minutes"), "min"),
    **dict.fromkeys(("h", "hr", "hour", "hours"), "h"),
    **{f"{unit}{s}": unit for unit in ("day", "week", "month", "year") for s in ("", "s")},
    **{f"{unit}{s}": unit for unit in ("dollar", "cent", "euro", "pound") for s in ("", "s")},
}
_DOLLARS = re.compile(r"\\\$\s*\d|\$\s*\d[^$]*$")
# The end of "42 is not the answer" and of "42 is wrong".
_DENIED = re.compile(
    r"\d\D*\b(?:(?:is|are|was|were)(?:\s+not|n't)|wrong|incorrect|false)\b\D*$|\\(?:neg|lnot)(?![a-z])",
    re.IGNORECASE,
)
# TeX and Python that compute: what they give is not what stands there.
_PROGRAM = re.compile(
    r"\\(?:immediate|write|read|openin|openout|input|include|[egx]?def|let|csname|catcode|number|"
    r"expandafter|(?:re)?newcommand|directlua|special|char)(?![A-Za-z])|\d\s*\\?%\s*\d"
)
# One or two letters or a Greek one: a variable or a segment. Longer names are words ("total = 5").
_NAMED = re.compile(r"([A-Za-z]{1,2}|\\[a-z]+)\s*=(?!.*[=<>])")


def contradicts(gold: str, prediction: str) -> bool:
    """Whether the form of a plain answer excludes that it is the gold one. Safe on any text."""
    return (
        _bases_differ(gold, prediction)
        or _units_differ(gold, prediction)
        or _names_differ(gold, prediction)
        or _order_differs(gold, prediction)
        or _says(_DENIED, gold) != _says(_DENIED, prediction)
        or _says(_PROGRAM, gold) != _says(_PROGRAM, prediction)
    )


def contradicts_relation(gold: str, prediction: str) -> bool:
    """Whether ratios are not proportional, or one side is a bound and the other a value."""
    return _ratios_differ(gold, prediction) or _bound_for_value(gold, prediction)


def _bases_differ(gold: str, prediction: str) -> bool:
    r"""Whether a numeral has a base and the other has none or another: math-verify ignores it.

    The numeral itself is compared: where a base is asked for, 14_8 is no answer for 12_{10}, and
    101, which is a hundred and one, none for 101_2.
    """
    keys = [_TEN.sub("", comparison_key(text)) for text in (gold, prediction)]
    based = [_BASED.fullmatch(key) is not None for key in keys]
    numerals = all(one or key.isdecimal() for one, key in zip(based, keys, strict=True))
    return any(based) and numerals and keys[0] != keys[1]


def _units_differ(gold: str, prediction: str) -> bool:
    """Whether both name a unit, in other powers (cm^2, cm^4) or of other size (cm, m; $, cents)."""
    one, other = _unit_of(gold), _unit_of(prediction)
    if one is None or other is None:
        return False
    both_known = all(unit in _SHORT_UNITS.values() for unit, _ in (one, other))
    return (one[1] != other[1] and one[0] == other[0]) or (both_known and one != other)


def _unit_of(text: str) -> tuple[str, str] | None:
    """The unit after a number, by its short name where it has one, or before it; its power."""
    if _DOLLARS.match(text.strip()):
        return "dollar", "1"
    found = unit_of(text)
    return found and (_SHORT_UNITS.get(found[0].lower(), found[0]), found[1])


def _says(pattern: re.Pattern[str], answer: str) -> bool:
    return pattern.search(answer) is not None


def _names_differ(gold: str, prediction: str) -> bool:
    """Whether both name a variable or a segment, and not the same: y = 5 is no answer for x = 5."""
    names = [_NAMED.match(normalize(text)) for text in (gold, prediction)]
    if names[0] is None or names[1] is None:
        return False
    one, other = (sorted(match[1].casefold()) for match in names if match)  # AB is BA
    return one != other


def _order_differs(gold: str, prediction: str) -> bool:
    r"""Whether one is a tuple, the other a set or list of the same values in another order."""
    texts = [normalize(text).replace(r"\{", "{").replace(r"\}", "}") for text in (gold, prediction)]
    inner = [inside_brackets(text) for text in texts]
    tuples = [text[:1] == "(" and part is not None for text, part in zip(texts, inner, strict=True)]
    if sum(tuples) != 1:
        return False
    one, other = (
        [_value_or_key(part) for part in top_level_parts(text if part is None else part)]
        for text, part in zip(texts, inner, strict=True)
    )
    return one != other and sorted(one) == sorted(other)


def _value_or_key(answer: str) -> str:
    key = comparison_key(answer)
    value = value_of(key)
    return key if value is None else str(value)


def assignments(answer: str) -> dict[str, str] | None:
    """`x = 1, y = 2` as values by name; None for anything else, `x = 1, x = 2` included."""
    pairs = [_ASSIGNED.fullmatch(part) for part in top_level_parts(answer)]
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


def lists_more(gold: str, prediction: str) -> bool:
    """Whether the prediction lists several different answers where the gold is a single one."""
    if _SEVERAL.search(gold) or len(top_level_parts(gold)) > 1:
        return False
    keys = {comparison_key(part) for part in top_level_parts(prediction)}
    return len(keys - {""}) > 1 and comparison_key(gold) in keys


def top_level_parts(answer: str) -> list[str]:
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
