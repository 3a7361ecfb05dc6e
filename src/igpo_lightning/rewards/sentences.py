"""Where the sentences of a solution begin and end."""

import re

# A display is one statement: a line break inside it ends no sentence.
_DISPLAY_SIGN = re.compile(r"\\(?:begin|end)\{[a-z]{1,20}\*?\}|\\[\[\]]|\$\$|\[/?asy\]")
_CLOSING = {"\\[": "\\]", "$$": "$$", "[asy]": "[/asy]"}
# Spaces are tried from the first of a run alone, or they would cost the square of their number.
# Where a sentence or a line ends.
LINE_BREAK = re.compile(r"[.!?][\"')\]}$*]*\s+|(?<!\s)\s*\n\s*")
_AFTER_DISPLAY = re.compile(r"\s*(?=[A-Z][a-z]|\[asy\])")


def sentence_bounds(text: str) -> list[tuple[int, int]]:
    r"""[start, end) of every sentence, in order; together they cover the text. Linear time.

    A sentence ends at . ! ? before a space, with its line, or with a display that a capital letter
    follows; a display (`\[...\]`, `$$...$$`, an environment) is never cut.
    """
    displays = find_displays(text)
    cuts, next_display = {0}, 0
    for match in LINE_BREAK.finditer(text):
        while next_display < len(displays) and displays[next_display][1] <= match.start():
            next_display += 1
        inside = next_display < len(displays) and displays[next_display][0] < match.start()
        if not inside and match.end() < len(text):
            cuts.add(match.end())
    for _, end in displays:
        follows = _AFTER_DISPLAY.match(text, end)
        if follows:
            cuts.add(follows.end())
    starts = sorted(cuts)
    return list(zip(starts, [*starts[1:], len(text)], strict=True))


def find_displays(text: str) -> list[tuple[int, int]]:
    """[start, end) of the outermost displays that are closed, in order."""
    signs = list(_DISPLAY_SIGN.finditer(text))
    last = {sign.group(): sign.start() for sign in signs}
    displays: list[tuple[int, int]] = []
    start, closing = 0, ""
    for sign in signs:
        if closing:
            if sign.group() == closing:
                displays.append((start, sign.end()))
                closing = ""
            continue
        wanted = _CLOSING.get(sign.group()) or sign.group().replace("\\begin", "\\end")
        opens = wanted != sign.group() or wanted == "$$"
        if opens and last.get(wanted, -1) > sign.start():
            start, closing = sign.start(), wanted
    return displays
