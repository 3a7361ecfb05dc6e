"""One spelling for an answer: what LaTeX, units and typing habits change without changing it."""
# ruff: noqa: RUF001 - the table of look-alikes has to hold them

import re
from functools import lru_cache

_UNICODE = str.maketrans(
    {
        "−": "-", "–": "-", "×": r"\times ", "·": r"\cdot ", "÷": "/", "°": r"^\circ ",
        "π": r"\pi ", "∞": r"\infty ", "∈": r"\in ", "∪": r"\cup ", "∩": r"\cap ",
        "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "±": r"\pm ", "√": r"\sqrt ", "²": "^2",
        "³": "^3", "½": r"\frac{1}{2}", "\u00a0": " ", "\x00": " ", "€": "", "£": "", "¥": "",
        "₹": "", "¢": "", "¼": r"\frac{1}{4}", "¾": r"\frac{3}{4}", "⅓": r"\frac{1}{3}",
        "⅔": r"\frac{2}{3}", "⅛": r"\frac{1}{8}",
    }
)  # fmt: skip
_ROOT_SIGN = re.compile(r"√\s*(?:\(([^()]*)\)|(\d+|[A-Za-z]))")
_WRAPPED = re.compile(
    r"\\(?:text(?:bf|it|rm|sf|tt|normal)?|math(?:rm|bf|it|sf|tt)|mbox|underline|operatorname)"
    r"\s*\{([^{}]*)\}"
)
_CHOICE = re.compile(
    r"\s*(?:(?P<open>\\(?:text(?:bf|rm)?|mathrm|mathbf)\s*\{)\s*)?\(\s*(?P<letter>[A-E])\s*\)\s*"
    r"(?P<close>\})?(?:\\[ ,;:!]|\\quad|~|\s)*"
)
# D. 5, D: 5, D) 5
_LETTERED = re.compile(r"\s*(?P<letter>[A-E])\s*[.:)]\s+(?=\S)")
_ANOTHER_CHOICE = re.compile(r"(?<![A-Za-z])\(\s*[A-E]\s*\)|(?<![A-Za-z\\])[A-E]\s*[.:)](?:\s|$)")
_NUMBER = r"-?(?:\d[\d,]*(?:\.\d+)?|\.\d+|\\frac\{\d+\}\{\d+\}|\d+/\d+)"
_UNIT_WORD = (
    r"(?:[A-Za-z]{3,}|cm|mm|km|dm|m|kg|mg|g|lb|oz|ft|in|mi|mph|hr|h|s|ms|min|ml|mL|L|J|N|W|V|K|Hz|"
    r"eV|Pa|rad|deg)"
)
# 3.5, 3 1/2, 12\\frac{3}{5}, 2\\pi, 4.5 \\times 10^{33}
_MEASURE = (
    rf"{_NUMBER}(?:\s+\d+/\d+|\\frac\{{\d+\}}\{{\d+\}})?"
    r"(?:\\pi|\s*(?:\\times|\\cdot)\s*10\^\{?-?\d+\}?)?|\\frac\{\d*\\pi\s*\}\{\d+\}"
)
_UNITS = re.compile(
    rf"(?P<value>{_MEASURE})(?:\s|\\[ ,]|~)*(?P<unit>{_UNIT_WORD}(?:[\s/]+{_UNIT_WORD})*)"
    r"(?:\^\{?(?P<power>-?\d)\}?)?"
)
_NOT_UNITS = re.compile(
    r"\b(?:or|and|by|to|pi|sqrt|sin|cos|tan|log|exp|mod|through|than|not|times|plus|minus|over|"
    r"divided|choose|squared|cubed|factorial|hundred|thousand|[mbtr]+illion|dozen|half|halves|thirds|"
    r"fourths|fifths|sixths|sevenths|eighths|ninths|tenths|hundredths|thousandths)\b"
)
_CLOSING = {"{": "}", "(": ")", "[": "]"}
_DOLLARS_AND_CENTS = re.compile(r"(\d+) dollars? (?:and )?(\d{1,2}) cents?")
_MULTIPLES = {"thousand": "e3", "million": "e6", "billion": "e9", "trillion": "e12"}
_MULTIPLE = re.compile(rf"(-?[\d.]+)\s*({'|'.join(_MULTIPLES)})")
NUMBER_WORDS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen"),
    *("nineteen", "twenty"),
)
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_DIGIT_WORD = "|".join(NUMBER_WORDS[1:10])
_BELOW_HUNDRED = (
    rf"(?:{'|'.join(reversed(NUMBER_WORDS))}|(?:{'|'.join(_TENS)})(?:[ -](?:{_DIGIT_WORD}))?)"
)
_SPOKEN = re.compile(
    rf"(?:(?P<thousands>{_BELOW_HUNDRED}) thousand(?: |$)(?:and )?)?"
    rf"(?:(?P<hundreds>{_DIGIT_WORD}) hundred(?: |$)(?:and )?)?(?P<rest>{_BELOW_HUNDRED})?"
)
_INFINITIES = {
    "infinity": r"\infty",
    "positive infinity": r"\infty",
    "negative infinity": r"-\infty",
    "minus infinity": r"-\infty",
}
_REAL_NUMBERS = re.compile(r"(?:the set of )?(?:all )?real numbers", re.IGNORECASE)
# A name before a value: x, AB, f(2), a_{37}, \\angle ABC; not before a second sign or a list.
_NAME = re.compile(
    r"^(?:\\angle\s*)?(?:[A-Za-z]{1,3}|[A-Za-z][a-z]{3,15}(?: [a-z]{2,15}){0,3}|\\[a-z]+)"
    r"(?:_\{?\w+\}?|'|\([\w\s]*\))?\s*=\s*"
    r"(?=[-\d\\.(])(?!.*(?:[=<>]|\\[lg]eq?(?![a-z])))"
)
# Total: 12
_LABEL = re.compile(r"^[A-Za-z][a-z]{3,15}(?: [a-z]{2,15}){0,3}\s*:\s*(?=[-\d\\.($])")
_HEDGE = re.compile(r"^(?:about|approximately|approx\.?|exactly|roughly|around)\s+(?=[-\d\\.$])")
_CURRENCY_CODE = re.compile(r"(?<![A-Za-z])(?:USD|US|EUR|GBP|CAD|AUD|Rs\.?)\s*(?=[\d.])")
_GREATER = r"(>=|>|\\geq?(?:slant)?(?![A-Za-z]))"
_DESCENDING = re.compile(rf"([^<>=]+){_GREATER}([^<>=]+){_GREATER}([^<>=]+)")
# Inside brackets a comma separates, so only a number that starts the answer is joined.
_THOUSANDS = re.compile(
    r"^-?[1-9]\d{0,2}(?:,\d{3})+(?![\d,])(?=[\s./%\\^*]|$)|^-?[1-9]\d{0,2}(?: \d{3})+(?=\.\d|$)"
)
_AND = re.compile(r"\s*(?:[,;]\s*)?(?<![A-Za-z\\])(?:and|or)(?![A-Za-z])\s*|\s*;\s*")
_FUNCTIONS = (
    r"(?<![\\A-Za-z])(arc(?:sin|cos|tan)|sin|cos|tan|cot|sec|csc|log|ln|exp|pi)(?![A-Za-z])"
)


def strip_choice(text: str) -> tuple[str | None, str]:
    r"""A multiple-choice label and the rest: `\textbf{(C)}\ 24.75` gives ("C", "24.75").

    The label is None where there is none, where nothing follows it, and where more follow.
    """
    match = _CHOICE.match(text) or _LETTERED.match(text)
    if not match or not re.search(r"[A-Za-z\d]", text[match.end() :]):
        return None, text
    rest = text[match.end() :].strip()
    if rest.startswith(",") or _ANOTHER_CHOICE.search(rest):  # a list of choices
        return None, text
    if match.re is _CHOICE and match["open"] and not match["close"] and rest.endswith("}"):
        rest = rest[:-1]
    return match["letter"], rest


@lru_cache(maxsize=1024)  # each rule about two answers asks for both
def normalize(text: str) -> str:
    """A plain answer in the spelling that a LaTeX parser understands best.

    Meaning is kept: spacing, delimiters, currency signs, thousands separators, a final period,
    doubled backslashes and shorthand arguments are settled; units stay.
    """
    text = _ROOT_SIGN.sub(r"\\sqrt{\1\2}", text).translate(_UNICODE).strip()
    if "\\\\" in text and not re.search(r"(?<!\\)\\[A-Za-z]", text):
        text = text.replace("\\\\", "\\")
    text = re.sub(r"\\(?:left|right|displaystyle|limits|[bB]ig+[lr]?)(?![A-Za-z])", "", text)
    text = re.sub(r"\\[dtc]frac(?![A-Za-z])", r"\\frac", text)
    text = re.sub(r"^(\*\*|__|`)(.*)\1$", r"\2", text)
    text = re.sub(r"\\degrees?(?![A-Za-z])", r"^\\circ", text)
    text = re.sub(r"\\([lr])brace(?![A-Za-z])", lambda m: r"\{" if m[1] == "l" else r"\}", text)
    text = text.replace(r"\mathbf{R}", r"\mathbb{R}")
    text = re.sub(r"\\(?:bar|dot|overline)\s*(?:\{\s*(\d+)\s*\}|(\d))", r"\\overline{\1\2}", text)
    text = re.sub(r"\^? ?\{? ?\\text ?\{ ?(st|nd|rd|th) ?\} ?\}?$", r"\1", text)
    text = re.sub(r"\\varnothing(?![A-Za-z])|\\\{\s*\\\}", r"\\emptyset", text)
    text = re.sub(r"\^\s*\{?\s*\\prime\s*\}?", "'", text)
    text = re.sub(r"(?<=[)\]])\s*U\s*(?=[(\[])", r" \\cup ", text)
    text = text.replace("{,}", ",").replace(r"\$", "").replace("\\%", "%")
    text = re.sub(r",\s*\\!\s*", ",", text)
    text = re.sub(r"(?<!\\)\\(?:[!,;: ]|hspace\*?\{[^{}]*\})|~|\\q?quad(?![A-Za-z])", " ", text)
    text = re.sub(r"(?<!\\)\\[()\[\]]", "", text)
    text = re.sub(r"\s+", " ", text.replace("$", "")).strip()
    text = re.sub(r"[\s.,;:\\]+$", "", text)
    text = re.sub(r"\s*(?:percent(?:age)?|pct)\b", "%", text)
    text = _CURRENCY_CODE.sub("", _HEDGE.sub("", text))
    text = _DOLLARS_AND_CENTS.sub(lambda match: f"{match[1]}.{int(match[2]):02}", text)
    text = re.sub(r"^(?:negative|minus)\s+(?=[\d\\.]|infinity)", "-", text)
    text = re.sub(r"^(\d+) to (\d+)$", r"\1:\2", text)
    text = _THOUSANDS.sub(_join_thousands, text)
    text = re.sub(r"^(-?\d+) (\d+)/(\d+)$", r"\1\\frac{\2}{\3}", text)
    text = re.sub(r"\\sqrt\s*\[([^\]]*)\]\s*([A-Za-z\d])", r"\\sqrt[\1]{\2}", text)
    text = re.sub(r"\\sqrt\s*([A-Za-z\d])", r"\\sqrt{\1}", text)
    text = re.sub(r"\\(frac|binom)\s*(\d)\s*(\d)", r"\\\1{\2}{\3}", text)
    text = re.sub(r"\\frac\s*(\d)\s*\{", r"\\frac{\1}{", text)
    text = re.sub(r"(\\frac\s*\{[^{}]*\})\s*([A-Za-z\d])", r"\1{\2}", text)
    # Counted first, since the pattern tries every pair of signs.
    if len(re.findall(_GREATER, text)) == 2 and (chain := _DESCENDING.fullmatch(text)):
        text = _ascending(chain)
    return _from_code(text) if "\\" not in text else text


def _ascending(chain: re.Match[str]) -> str:
    """b > x >= a as a <= x < b."""
    largest, first, middle, second, smallest = (part.strip() for part in chain.groups())
    signs = ["<" if sign == ">" else r"\le " for sign in (second, first)]
    return f"{smallest}{signs[0]}{middle}{signs[1]}{largest}"


# Bounded: the trainer keeps these for texts of up to 2,000 characters.
@lru_cache(maxsize=1024)
def comparison_key(text: str) -> str:
    """What two spellings of one answer share; equal keys are equal answers.

    On top of `normalize`: text wrappers, units after a number, percent and degree signs, spaces
    and a name before a value ("x =") are dropped; plain words compare without case, number words
    as numbers.
    """
    text = normalize(text)
    text = _WRAPPED.sub(r" \1 ", text).strip().rstrip(". ")
    text = re.sub(r"\^\s*\{?\s*\\circ\s*\}?(?:\s*[CF]$)?", "", text).rstrip("% ")
    text = re.sub(r"^(?:option|choice)\s*\(?([A-Ea-e])\)?$", r"(\1)", text, flags=re.IGNORECASE)
    text = strip_units(_LABEL.sub("", _NAME.sub("", text, count=1) if "=" in text else text))
    text = _AND.sub(",", re.sub(r"\b(hundred|thousand) and\b", r"\1", text))
    if re.fullmatch(r"[A-Za-z][A-Za-z .'-]+", text):
        return _words_key(text)
    text = re.sub(r"(?<=_)\s*\{?\s*([a-z]{3,5})\s*\}?$", _digit_of_word, text)
    text = re.sub(r"(?<=\d)\s+(?=\d)", "_", text)
    text = _MULTIPLE.sub(lambda match: match[1] + _MULTIPLES[match[2]], text)
    text = re.sub(r"\s+", "", text)
    text = re.sub(r"_\{(\w)\}", r"_\1", text)
    text = re.sub(r"^\((-?[\d.]+)\)$", r"\1", text)
    text = re.sub(r"(?<=\d)([APap])\.?[Mm]$", lambda match: match[1].lower() + "m", text)
    text = re.sub(r"^\(([\dA-Z]+)\)_", r"\1_", text)
    if re.fullmatch(r"[A-E]\)|\([A-E]\)(?:,\([A-E]\))*", text):
        return re.sub(r"[()]", "", text)
    if re.fullmatch(r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)", text):
        return _plain_number(text)
    return text


def _words_key(text: str) -> str:
    words = " ".join(text.casefold().split())
    if _REAL_NUMBERS.fullmatch(words):
        return r"\mathbb{R}"
    if words in _INFINITIES:
        return _INFINITIES[words]
    spoken = _SPOKEN.fullmatch(words)
    return words if spoken is None else str(_spoken_number(spoken))


def _spoken_number(spoken: re.Match[str]) -> int:
    """The number that words below a hundred thousand say."""
    thousands, hundreds, rest = (_below_hundred(part or "zero") for part in spoken.groups())
    return 1000 * thousands + 100 * hundreds + rest


def _below_hundred(words: str) -> int:
    tens, _, ones = words.replace("-", " ").partition(" ")
    if tens in _TENS:
        return 10 * (_TENS.index(tens) + 2) + (NUMBER_WORDS.index(ones) if ones else 0)
    return NUMBER_WORDS.index(tens)


def _digit_of_word(match: re.Match[str]) -> str:
    return str(NUMBER_WORDS.index(match[1])) if match[1] in NUMBER_WORDS else match.group()


def strip_braces(text: str) -> str:
    r"""Without the pairs of braces around the whole: `{(2,4)}` is `(2,4)`; `\{1,2\}` stays."""
    text = text.strip()
    while text.startswith("{") and inside_brackets(text) is not None:
        text = text[1:-1].strip()
    return text


def inside_brackets(text: str) -> str | None:
    """What a bracket that opens a text encloses, if it closes with the text's end; else None."""
    opening, closing, depth = text[:1], _CLOSING.get(text[:1], ""), 0
    if not closing or not text.endswith(closing):
        return None
    for place, character in enumerate(text):
        if character in (opening, closing) and text[place - 1 : place] != "\\":
            depth += 1 if character == opening else -1
            if depth == 0:
                return text[1:-1] if place == len(text) - 1 else None
    return None


def as_formula(text: str) -> str:
    r"""A normalised answer with notation that math-verify does not know: C(5,2), `5\cdot i`."""
    text = re.sub(r"(?<![A-Za-z\\])C\((\d{1,4}),\s*(\d{1,4})\)", r"\\binom{\1}{\2}", text)
    return re.sub(r"(?<=[\d})])\s*\\cdot\s*i(?![A-Za-z])", "i", text)


def unit_of(text: str) -> tuple[str, str] | None:
    """The unit after a number and its power: ("cm", "2"); None where there is none."""
    text = re.sub(r"\s*\^\s*", "^", " ".join(_WRAPPED.sub(r" \1 ", normalize(text)).split()))
    match = _UNITS.fullmatch(text)
    if match is None or _NOT_UNITS.search(match["unit"]):
        return None
    return match["unit"].strip(), match["power"] or "1"


def strip_units(text: str) -> str:
    """A number without the unit words that follow it; anything else as it is."""
    match = _UNITS.fullmatch(text)
    if match and (match["unit"] == "times" or not _NOT_UNITS.search(match["unit"])):
        return match.group("value")
    return text


def _join_thousands(match: re.Match[str]) -> str:
    return match.group().replace(",", "").replace(" ", "")


def _plain_number(text: str) -> str:
    sign = "-" if text.startswith("-") else ""
    whole, _, decimals = text.lstrip("+-").partition(".")
    whole, decimals = whole.lstrip("0") or "0", decimals.rstrip("0")
    number = f"{whole}.{decimals}" if decimals else whole
    return number if number == "0" else sign + number


def _from_code(text: str) -> str:
    """`sqrt(3)*pi**2` as LaTeX; text without code is unchanged."""
    text = re.sub(r"\bnp\.|\bmath\.", "", text.replace("**", "^"))
    text = re.sub(r"\bsqrt\(([^()]*)\)", r"\\sqrt{\1}", text)
    text = re.sub(r"\^\(([^()]*)\)", r"^{\1}", text)
    text = re.sub(r"\*(?=[\w\\(])", r"\\cdot ", text)
    text = re.sub(r"(?<![A-Za-z])(?:oo|infinity|inf)(?![A-Za-z])", r"\\infty", text)
    return re.sub(_FUNCTIONS, r"\\\1 ", text)
