"""How often the answer stays visible in what hints may show, and how much hints must leave out.

    python benchmarks/answer_spans.py ../shared/data

For every trace of a folder of problems: `find_answer_span` says what hints never show; the text
before it may be shown. Columns:

- found: traces that state their answer.
- last: the answer stands in the shown part of the last sentence, not as an exponent or index.
- before: the sentence before the last ends with the answer, after a sign like "=" or a word like
  "is", and is shown.
- graded: the shown part alone, read as a completion, gives the right answer.
- median, 90 %: share of the trace that is left out.
- half: traces of which more than half is left out; reasoning: of which more than half of what
  comes before the answer's own mark (box, `####`) is left out.
"""

import argparse
import gzip
import json
import re
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from igpo_lightning.rewards import extract_answer, find_answer_span
from igpo_lightning.rewards.answer_span import first_mark
from igpo_lightning.rewards.grading import is_same_spelling

# Independent of the code that is measured: a sentence ends at . ! ? or with its line.
_SENTENCE = re.compile(r"[.!?][\"')\]}$*\\]*\s+|\s*\n\s*")
_CALCULATOR_MARK = re.compile(r"<<[^<>\n]*>>")
_COLUMNS = ("traces", "found", "last", "before", "graded", "median", "90 %", "half", "reasoning")


def traces(file: Path) -> Iterator[tuple[str, str]]:
    """(trace, answer) of every row that has a solution."""
    data = file.read_bytes()
    for line in (gzip.decompress(data) if file.suffix == ".gz" else data).split(b"\n"):
        row: dict[str, Any] = json.loads(line) if line else {}
        if row.get("solution") and row.get("answer"):
            yield _CALCULATOR_MARK.sub("", row["solution"]).strip(), str(row["answer"])


def last_sentences(trace: str) -> tuple[int, int]:
    """Where the last sentence begins, and the one before; `#### N` is no sentence."""
    body = trace.partition("####")[0].rstrip()
    cuts = [0, 0] + [m.end() for m in _SENTENCE.finditer(body) if m.end() < len(body)]
    return cuts[-1], cuts[-2]


def leaks(trace: str, answer: str, start: int) -> tuple[bool, bool, bool]:
    """(last, before, graded) of a trace whose characters up to `start` may be shown."""
    alone = rf"(?<![\w.^])(?<!\^\{{)(?<!_\{{){re.escape(answer)}(?!\w|[.,]\d)"
    last, before = last_sentences(trace)
    ended = re.compile(
        rf"(?:=|\\approx|\\equiv|\b(?:is|are|gives?|gets?|yields?|makes?|leaves|you|us|to))"
        rf"[ $]*{alone}"
        r"[^\w\s=+*/^-]*\s*$"
    )
    shown_before = trace[before : min(last, start)] if start >= last else ""
    return (
        re.search(alone, trace[last:start]) is not None,
        ended.search(shown_before) is not None,
        is_same_spelling(answer, extract_answer(trace[:start]) or ""),
    )


def measure(file: Path) -> dict[str, float]:
    """The numbers of one file; see the module's text."""
    rows = list(traces(file))
    found = [
        (trace, answer, span[0])
        for trace, answer in rows
        if (span := find_answer_span(trace, answer)) is not None
    ]
    counts = [sum(column) for column in zip(*(leaks(*row) for row in found), strict=True)]
    shares = sorted(1 - start / len(trace) for trace, _, start in found)
    reasoning = 0
    for trace, answer, start in found:
        mark = first_mark(trace, answer)
        reasoning += mark is not None and start < mark / 2
    values = (
        *(len(rows), len(found), *counts),
        *(statistics.median(shares), shares[int(0.9 * len(shares))]),
        *(sum(share > 0.5 for share in shares), reasoning),
    )
    return dict(zip(_COLUMNS, values, strict=True))


def main() -> None:
    """Print the table of a folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    print("| " + " | ".join(("file", *_COLUMNS)) + " |")
    print("|---" * (1 + len(_COLUMNS)) + "|")
    for file in sorted(folder.glob("*.jsonl*")):
        if next(traces(file), None) is not None:
            numbers = measure(file)
            cells = [
                f"{value:.2f}" if isinstance(value, float) else str(value)
                for value in numbers.values()
            ]
            print("| " + " | ".join((file.name.partition(".jsonl")[0], *cells)) + " |", flush=True)


if __name__ == "__main__":
    main()
