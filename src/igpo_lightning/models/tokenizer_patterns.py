"""Patterns of a tokenizer.json that may take exponential time: tried before they are used.

The library that splits texts gives up after 10^7 steps of one match, and panics then: seconds for
each text, and no word of which file is at fault.
"""

import json
import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SECONDS = 3  # of computation for all probes; sound patterns take a hundredth
_PATIENCE = 60.0  # seconds on the clock
_REPEAT = re.compile(r"[*+](?P<own>[+?]?)|\{\d*,\}(?P<lazy>\??)")
_PROBE = (
    "import json, sys; from tokenizers import Tokenizer; "
    "tokenizer = Tokenizer.from_file(sys.argv[1]); "
    "[tokenizer.encode(text) for text in json.load(sys.stdin)]"
)


def exploding_pattern(file: Path) -> str | None:
    """A pattern of a tokenizer.json on which splitting a short text does not end soon, or None.

    Only patterns with repeats inside repeats are tried, in a process of its own, on texts of one
    repeated character.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None  # whoever reads the tokenizer says what is wrong
    nested = [pattern for pattern in _patterns(content) if has_nested_repeats(pattern)]
    if not nested:
        return None
    letters = {c for pattern in nested for c in pattern if c.isalnum()} | set("aA1 .\n")
    probes = [letter * 40 + end for letter in sorted(letters) for end in ("!", "\x00")]
    return None if _ends_soon(file, probes) else nested[0]


def _patterns(content: Any) -> Iterator[str]:
    """All regular expressions within a tokenizer.json."""
    waiting = [content]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            pattern = item.get("Regex")
            if isinstance(pattern, str):
                yield pattern
            # The vocabulary is large and holds none.
            waiting += [value for key, value in item.items() if key not in ("vocab", "merges")]
        elif isinstance(item, list):
            waiting += item


def has_nested_repeats(pattern: str) -> bool:
    """Whether a group that is repeated without bound holds such a repeat, as in `(a+)+`.

    Possessive repeats (`a++`) and atomic groups are not gone back into.
    """
    groups = [False]  # from the outermost: whether it holds an unbounded repeat
    atomic: list[bool] = []
    place = 0
    while place < len(pattern):
        character = pattern[place]
        inner = False
        if character == "\\":
            place += 2
        elif character == "[":
            place = _end_of_class(pattern, place)
        elif character == "(":
            groups.append(False)
            atomic.append(pattern.startswith("(?>", place))
            place += 1
            continue
        elif character == ")" and atomic:
            held, closed = groups.pop(), atomic.pop()
            inner = held and not closed
            place += 1
        else:
            place += 1
        repeat = _REPEAT.match(pattern, place)
        unbounded = repeat is not None and repeat["own"] != "+"
        if inner and unbounded:
            return True
        groups[-1] = groups[-1] or inner or unbounded
        place = place if repeat is None else repeat.end()
    return False


def _end_of_class(pattern: str, start: int) -> int:
    """Where a character class ends; classes may stand in each other."""
    depth, place = 0, start
    while place < len(pattern):
        if pattern[place] == "\\":
            place += 1
        elif pattern[place] == "[":
            depth += 1
        elif pattern[place] == "]":
            depth -= 1
            if depth == 0:
                return place + 1
        place += 1
    return place


def _ends_soon(file: Path, probes: list[str]) -> bool:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))

    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROBE, str(file)],
            input=json.dumps(probes).encode(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,  # the library prints where it panicked
            preexec_fn=limit,
            timeout=_PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0
