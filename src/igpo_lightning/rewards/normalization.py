"""One spelling for an answer: what LaTeX, units and typing habits change without changing it."""
# ruff: noqa: RUF001 - the table of look-alikes has to hold them

import re
from functools import lru_cache

_UNICODE = str.maketrans(
    {
        "−": "-", "–": "-", "×": r"\times ", "·": r"\cdot ", "÷": "/", "°": r"^\circ ",
        "π": r"\pi ", "∞": r"\infty ", "∈": r"\in ", "∪": r"\cup ", "∩": r"\cap ",
        "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "±": r"\pm ", "√": r"\sqrt ", "²": "^2",
        "³": "^3", "½": r"\frac{1}{2}", "\u00a0": " ", "\x00": " ", "€": "", "£": "",
    }
)  # fmt: skip
_ROOT_SIGN = re.compile(r"√\s*(?:\(([^()]*)\)|(\d+|[A-Za-z]))")
_WRAPPED = re.compile(r"\\(?:text(?:bf|it|rm|normal)?|math(?:rm|bf)|mbox)\s*\{([^{}]*)\}")
_CHOICE = re.compile(
    r"\s*(?:(?P<open>\\(?:text(?:bf|rm)?|mathrm|mathbf)\s*\{)\s*)?\(\s*(?P<letter>[A-E])\s*\)\s*"
    r"(?P<close>\})?(?:\\[ ,;:!]|\\quad|~|\s)*"
)
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
    r"(?:\^\{?-?\d\}?)?"
)
_NOT_UNITS = re.compile(
    r"\b(?:or|and|by|to|pi|sqrt|sin|cos|tan|log|exp|mod|through|than|not|times|plus|minus|over|"
    r"divided|choose|squared|cubed|factorial|hundred|thousand|[mbtr]+illion|dozen|half|halves|thirds|"
    r"fourths|fifths|sixths|sevenths|eighths|ninths|tenths|hundredths|thousandths)\b"
)
_MULTIPLES = {"thousand": "e3", "million": "e6", "billion": "e9", "trillion": "e12"}
_MULTIPLE = re.compile(rf"(-?[\d.]+)\s*({'|'.join(_MULTIPLES)})")
NUMBER_WORDS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen"),
    *("nineteen", "twenty"),
)
_REAL_NUMBERS = re.compile(r"(?:the set of )?(?:all )?real numbers", re.IGNORECASE)
# A name before a value: x, AB, f(2), a_{37}, \\angle ABC; not before a second sign or a list.
_NAME = re.compile(
    r"^(?:\\angle\s*)?(?:[A-Za-z]{1,3}|\\[a-z]+)(?:_\{?\w+\}?|'|\([\w\s]*\))?\s*=\s*"
    r"(?=[-\d\\.(])(?!.*(?:[=<>]|\\[lg]eq?(?![a-z])))"
)
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

    The label is None where there is none, or where nothing follows it.
    """
    match = _CHOICE.match(text)
    if not match or not re.search(r"[A-Za-z\d]", text[match.end() :]):
        return None, text
    rest = text[match.end() :].strip()
    if rest.startswith(","):  # a list of choices
        return None, text
    if match.group("open") and not match.group("close") and rest.endswith("}"):
        rest = rest[:-1]
    return match.group("letter"), rest


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
    text = re.sub(r"\\varnothing(?![A-Za-z])|\\\{\s*\\\}", r"\\emptyset", text)
    text = re.sub(r"\^\s*\{?\s*\\prime\s*\}?", "'", text)
    text = re.sub(r"(?<=[)\]])\s*U\s*(?=[(\[])", r" \\cup ", text)
    text = text.replace("{,}", ",").replace(r"\$", "").replace("\\%", "%")
    text = re.sub(r",\s*\\!\s*", ",", text)
    text = re.sub(r"(?<!\\)\\[!,;: ]|~|\\q?quad(?![A-Za-z])", " ", text)
    text = re.sub(r"(?<!\\)\\[()\[\]]", "", text)
    text = re.sub(r"\s+", " ", text.replace("$", "")).strip()
    text = re.sub(r"[\s.,;:\\]+$", "", text)
    text = re.sub(r"\s*(?:percent(?:age)?|pct)\b", "%", text)
    text = _THOUSANDS.sub(_join_thousands, text)
    text = re.sub(r"^(-?\d+) (\d+)/(\d+)$", r"\1\\frac{\2}{\3}", text)
    text = re.sub(r"\\sqrt\s*\[([^\]]*)\]\s*([A-Za-z\d])", r"\\sqrt[\1]{\2}", text)
    text = re.sub(r"\\sqrt\s*([A-Za-z\d])", r"\\sqrt{\1}", text)
    text = re.sub(r"\\frac\s*(\d)\s*(\d)", r"\\frac{\1}{\2}", text)
    text = re.sub(r"\\frac\s*(\d)\s*\{", r"\\frac{\1}{", text)
    text = re.sub(r"(\\frac\s*\{[^{}]*\})\s*([A-Za-z\d])", r"\1{\2}", text)
    return _from_code(text) if "\\" not in text else text


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
    text = _NAME.sub("", strip_units(text), count=1) if "=" in text else strip_units(text)
    text = _AND.sub(",", text)
    if re.fullmatch(r"[A-Za-z][A-Za-z .'-]+", text):
        return _words_key(text)
    text = re.sub(r"(?<=_)\s*\{?\s*([a-z]{3,5})\s*\}?$", _digit_of_word, text)
    text = re.sub(r"(?<=\d)\s+(?=\d)", "_", text)
    text = _MULTIPLE.sub(lambda match: match[1] + _MULTIPLES[match[2]], text)
    text = re.sub(r"\s+", "", text)
    text = re.sub(r"_\{(\w)\}", r"_\1", text)
    text = re.sub(r"^\((-?[\d.]+)\)$", r"\1", text)
    text = re.sub(r"(?<=\d)([ap])\.?m$", r"\1m", text)
    if re.fullmatch(r"[A-E]\)|\([A-E]\)(?:,\([A-E]\))*", text):
        return re.sub(r"[()]", "", text)
    if re.fullmatch(r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)", text):
        return _plain_number(text)
    return text


def _words_key(text: str) -> str:
    words = " ".join(text.casefold().split())
    if _REAL_NUMBERS.fullmatch(words):
        return r"\mathbb{R}"
    choice = re.fullmatch(r"(?:option|choice) ([a-e])", words)
    if choice:
        return choice[1].upper()
    return str(NUMBER_WORDS.index(words)) if words in NUMBER_WORDS else words


def _digit_of_word(match: re.Match[str]) -> str:
    return str(NUMBER_WORDS.index(match[1])) if match[1] in NUMBER_WORDS else match.group()


def strip_units(text: str) -> str:
    """A number without the unit words that follow it; anything else as it is."""
    match = _UNITS.fullmatch(text)
    if match and not _NOT_UNITS.search(match.group("unit")):
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
