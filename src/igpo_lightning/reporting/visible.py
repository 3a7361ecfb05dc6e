"""Text that strangers wrote, made safe for a terminal and a log."""

import re

# Controls (C0, DEL, C1) but tab and line feed, marks that turn the direction of writing, and halves
# of surrogate pairs, which no terminal can be sent.
_ACTIVE = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def visible(text: str) -> str:
    """The text with every character that a terminal would obey shown instead: ESC is ␛.

    Escape sequences lose their first character, and with it their power: they can neither set a
    window's title (ESC ] 0 ;), clear the screen (ESC [ 2 J) nor hide an address behind a link
    (ESC ] 8 ; ;). Tabs and line feeds stay.
    """
    return _ACTIVE.sub(_shown, text)


def _shown(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code < 0x20:
        return chr(0x2400 + code)  # Unicode's pictures of control characters
    return "\u2421" if code == 0x7F else f"\\u{code:04x}"
