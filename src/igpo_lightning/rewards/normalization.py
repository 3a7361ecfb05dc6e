"""One spelling for an answer: what LaTeX, units and typing habits change without changing it."""
# ruff: noqa: RUF001 - the table of look-alikes has to hold them

import re

_UNICODE = str.maketrans(
    {
        "−": "-", "–": "-", "×": r"\times ", "·": r"\cdot ", "÷": "/", "°": r"^\circ ",
        "π": r"\pi ", "∞": r"\infty ", "∈": r"\in ", "∪": r"\cup ", "∩": r"\cap ",
        "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "±": r"\pm ", "√": r"\sqrt ", "²": "^2",
        "³": "^3", "½": r"\frac{1}{2}", "\u00a0": " ", "\x00": " ", "€": "", "£": "",
    }
)  # fmt: skip
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
_UNITS = re.compile(
    rf"(?P<value>{_NUMBER})(?:\s|\\[ ,]|~)*(?P<unit>{_UNIT_WORD}(?:[\s/]+{_UNIT_WORD})*)"
    r"(?:\^\{?-?\d\}?)?"
)
_NOT_UNITS = re.compile(r"\b(?:or|and|by|to|pi|sqrt|sin|cos|tan|log|exp|mod|through)\b")
# Inside brackets a comma separates, so only a number that starts the answer is joined.
_THOUSANDS = re.compile(
    r"^-?\d{1,3}(?:,\d{3})+(?![\d,])(?=[\s./%\\^*]|$)|^-?\d{1,3}(?: \d{3})+(?=\.\d|$)"
)
_AND = re.compile(r"\s*(?:[,;]\s*)?(?<![A-Za-z\\])(?:and|or)(?![A-Za-z])\s*|\s*;\s*")
_FUNCTIONS = r"(?<![\\A-Za-z])(sin|cos|tan|cot|sec|csc|log|ln|exp|pi)(?![A-Za-z])"


def strip_choice(text: str) -> tuple[str | None, str]:
    r"""A multiple-choice label and the rest: `\textbf{(C)}\ 24.75` gives ("C", "24.75").

    The label is None where there is none, or where nothing follows it.
    """
    match = _CHOICE.match(text)
    if not match or not re.search(r"[A-Za-z\d]", text[match.end() :]):
        return None, text
    rest = text[match.end() :].strip()
    if match.group("open") and not match.group("close") and rest.endswith("}"):
        rest = rest[:-1]
    return match.group("letter"), rest


def normalize(text: str) -> str:
    """A plain answer in the spelling that a LaTeX parser understands best.

    Meaning is kept: spacing, delimiters, currency signs, thousands separators, a final period,
    doubled backslashes and shorthand arguments are settled; units stay.
    """
    text = text.translate(_UNICODE).strip()
    if "\\\\" in text and not re.search(r"(?<!\\)\\[A-Za-z]", text):
        text = text.replace("\\\\", "\\")
    text = re.sub(r"\\(?:left|right|displaystyle|limits|[bB]ig+[lr]?)(?![A-Za-z])", "", text)
    text = re.sub(r"\\[dtc]frac(?![A-Za-z])", r"\\frac", text)
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


def comparison_key(text: str) -> str:
    """What two spellings of one answer share; equal keys are equal answers.

    On top of `normalize`: text wrappers, units after a number, percent and degree signs, spaces
    and an `x =` before a number are dropped; plain words compare without case.
    """
    text = normalize(text)
    text = _WRAPPED.sub(r" \1 ", text).strip()
    text = _AND.sub(",", strip_units(text))
    text = re.sub(r"\^\s*\{?\s*\\circ\s*\}?", "", text).rstrip("% ")
    text = re.sub(r"^[A-Za-z]\s*=\s*(?=[-\d\\.])(?!.*[=,])", "", text)
    if re.fullmatch(r"[A-Za-z][A-Za-z .'-]+", text):
        return " ".join(text.casefold().split())
    text = re.sub(r"(?<=\d)\s+(?=\d)", "_", text)
    text = re.sub(r"\s+", "", text)
    if re.fullmatch(r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)", text):
        return _plain_number(text)
    return text


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
    text = text.replace("**", "^")
    text = re.sub(r"\bsqrt\(([^()]*)\)", r"\\sqrt{\1}", text)
    text = re.sub(r"\^\(([^()]*)\)", r"^{\1}", text)
    text = re.sub(r"\*(?=[\w\\(])", r"\\cdot ", text)
    text = re.sub(r"(?<![A-Za-z])(?:oo|infinity|inf)(?![A-Za-z])", r"\\infty", text)
    return re.sub(_FUNCTIONS, r"\\\1 ", text)
