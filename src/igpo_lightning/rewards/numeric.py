"""Numbers in answers: their exact value, and decimals that stand for a fraction."""

import re
from fractions import Fraction

# A decimal this long states a fraction that has no finite decimal: 0.667 for 2/3, not 0.67.
_STATED_DECIMALS = 3
# Larger exponents of ten are no measured quantity; computing them only costs memory.
_LARGEST_EXPONENT = 999
_LONGEST = 4000  # characters
_SIMPLE = r"\d+(?:\.\d*)?|\.\d+"
_SCIENTIFIC = re.compile(
    rf"(?P<factor>-?(?:{_SIMPLE}))(?:e|E|(?:\\times|\\cdot|\*|x)10\^)\{{?(?P<power>[+-]?\d{{1,4}})\}}?"
)
_POWER_OF_TEN = re.compile(r"10\^\{?(?P<power>-?\d{1,4})\}?")
_MIXED = re.compile(
    r"(?P<sign>-?)(?P<whole>\d+)(?:\\frac\{(?P<a>\d+)\}\{(?P<b>\d+)\}|_(?P<c>\d+)/(?P<d>\d+))"
)
_REPEATING = re.compile(r"(?P<sign>-?)(?P<whole>\d*)\.(?P<once>\d*)\\overline\{(?P<again>\d+)\}")
_FRACTION = re.compile(
    r"(?P<sign>-?)(?:\\frac\{(?P<inner>-?)(?P<a>\d+)\}\{(?P<b>\d+)\}|(?P<c>\d+)/(?P<d>\d+))"
)
_TOKEN = re.compile(rf"(?:\\frac\{{\d+\}}\{{\d+\}}|\d+/\d+|{_SIMPLE})")


def value_of(key: str) -> Fraction | None:
    """The exact value of a comparison key that is one number, else None.

    Integers, decimals, also repeating ones, simple fractions, mixed numbers and scientific
    notation. Safe on any text of a bounded length.
    """
    if len(key) > _LONGEST:  # Python reads no integer of more than 4,300 digits
        return None
    if re.fullmatch(rf"[-+]?(?:{_SIMPLE})", key):
        return Fraction(key)
    if match := _FRACTION.fullmatch(key):
        if not int(match["b"] or match["d"]):
            return None
        value = Fraction(int(match["a"] or match["c"]), int(match["b"] or match["d"]))
        return -value if bool(match["sign"]) != bool(match["inner"]) else value
    if match := _MIXED.fullmatch(key):
        top, bottom = int(match["a"] or match["c"]), int(match["b"] or match["d"])
        # 1\frac{5}{3} is no mixed number.
        if top >= bottom:
            return None
        value = int(match["whole"]) + Fraction(top, bottom)
        return -value if match["sign"] else value
    if match := _SCIENTIFIC.fullmatch(key):
        return _scaled(Fraction(match["factor"]), int(match["power"]))
    if match := _POWER_OF_TEN.fullmatch(key):
        return _scaled(Fraction(1), int(match["power"]))
    if match := _REPEATING.fullmatch(key):
        once, again = match["once"], match["again"]
        tail = Fraction(int(again), (10 ** len(again) - 1) * 10 ** len(once))
        value = Fraction(f"{match['whole'] or 0}.{once or 0}") + tail
        return -value if match["sign"] else value
    return None


def same_numbers(one: str, other: str) -> bool:
    """Whether two comparison keys differ only in how their numbers are written.

    What stands between the numbers must be equal, and so must the numbers, or one is a decimal
    with at least three places to which the other, a fraction, rounds.
    """
    if _TOKEN.split(one) != _TOKEN.split(other):
        return False
    pairs = list(zip(_TOKEN.findall(one), _TOKEN.findall(other), strict=True))
    return bool(pairs) and all(_same_number(a, b) for a, b in pairs)


def _same_number(one: str, other: str) -> bool:
    values = value_of(one), value_of(other)
    if values[0] is None or values[1] is None:
        return one == other
    return (
        values[0] == values[1]
        or _rounds_to(values[0], one, other)
        or _rounds_to(values[1], other, one)
    )


def _rounds_to(value: Fraction, written: str, decimal: str) -> bool:
    """Whether a fraction without a finite decimal is `decimal` at the precision stated there."""
    places = len(decimal.partition(".")[2])
    if "." in written or places < _STATED_DECIMALS:
        return False
    rest = value.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    return rest > 1 and round(value, places) == Fraction(decimal)


def _scaled(factor: Fraction, power: int) -> Fraction | None:
    return factor * Fraction(10) ** power if abs(power) <= _LARGEST_EXPONENT else None
