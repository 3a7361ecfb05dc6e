"""Which logged samples a report shows, in the short form that its viewer reads."""

import json
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from igpo_lightning.reporting.run_data import RunData
from igpo_lightning.runs.metrics_file import MEASURED_FILE

# File: where its samples come from, as the viewer's filter names it. stage=eval writes its samples
# to samples.jsonl too; they carry no step.
_SOURCES = {
    "samples.jsonl": "training",
    "eval_before.jsonl": "evaluation before",
    "eval_after.jsonl": "evaluation after",
}


def _records(file: Path) -> list[dict[str, Any]]:
    if not file.exists():
        return []
    with file.open(encoding="utf-8") as lines:
        return [record for line in lines if (record := _parsed(line)) is not None]


def _parsed(line: str) -> dict[str, Any] | None:
    """A line's record; None for a last line that is still being written."""
    try:
        record: dict[str, Any] = json.loads(line)
    except json.JSONDecodeError:
        return None
    return record


def spread(records: list[dict[str, Any]], limit: int) -> list[dict[str, Any]]:
    """At most `limit` records: whole steps, evenly spread, the last one always among them."""
    if len(records) <= limit:
        return records
    steps = [list(rows) for _, rows in groupby(records, key=lambda r: r.get("step"))]
    wanted = max(1, limit * len(steps) // len(records))
    if wanted == 1:
        return steps[-1][:limit]
    chosen = sorted({round(i * (len(steps) - 1) / (wanted - 1)) for i in range(wanted)})
    return [record for place in chosen for record in steps[place]][:limit]


def live_tokens(tokens: list[str], completion: str) -> int:
    """How many tokens make up the completion's text, which ends before its first EOS."""
    length = 0
    for count, token in enumerate(tokens):
        if length >= len(completion):
            return count
        length += len(token)
    return len(tokens)


def viewer_record(record: dict[str, Any], run: str, source: str) -> dict[str, Any]:
    """A sample as the viewer reads it; old runs' evaluations have no tokens and do not replay."""
    tokens = record.get("tokens", [])
    keys = ("step", "id", "group", "sample", "question", "prompt", "trace", "answer", "completion")
    parts = ("replaced", "correct", "reason", "reward", "reward_parts", "level")
    short = {key: record[key] for key in keys + parts if record.get(key) is not None}
    return short | {
        "run": run,
        "source": source,
        "tokens": tokens,
        "unmask_step": record.get("unmask_step", []),
        "hints": [i for i, hint in enumerate(record.get("hint_mask", [])) if hint],
        "live": live_tokens(tokens, record.get("completion", "")),
    }


def _suite_sources(folder: Path) -> dict[str, str]:
    """File: source of the samples of an evaluation suite, which has a folder for each part."""
    parts = sorted(file.parent.name for file in folder.glob(f"*/{MEASURED_FILE}"))
    return {f"{name}/samples.jsonl": name for name in parts}


def _run_samples(run: RunData, limit: int) -> Iterator[tuple[list[dict[str, Any]], int]]:
    for name, source in (_SOURCES | _suite_sources(run.folder)).items():
        records = _records(run.folder / name)
        if name == "samples.jsonl" and records and "step" not in records[0]:
            source = "evaluation"
        share = limit if name == "samples.jsonl" else max(1, limit // 4)
        kept = spread(records, share)
        yield [viewer_record(record, run.name, source) for record in kept], len(records)


def viewer_samples(runs: list[RunData], limit: int) -> tuple[list[dict[str, Any]], int]:
    """The samples that a report shows.

    Args:
        runs: Of the report.
        limit: About so many training samples over all runs; evaluations add up to half as many.

    Returns:
        The samples, and how many the runs logged.
    """
    shown: list[dict[str, Any]] = []
    logged = 0
    for run in runs:
        for records, count in _run_samples(run, max(1, limit // max(1, len(runs)))):
            shown += records
            logged += count
    return shown, logged
