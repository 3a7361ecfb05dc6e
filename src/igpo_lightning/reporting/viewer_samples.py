"""Which logged samples a report shows, in the short form that its viewer reads."""

from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from igpo_lightning.reporting.run_data import RunData
from igpo_lightning.runs import json_lines
from igpo_lightning.runs.metrics_file import MEASURED_FILE

# File: where its samples come from, as the viewer's filter names it. stage=eval writes its samples
# to samples.jsonl too; they carry no step.
_SOURCES = {
    "samples.jsonl": "training",
    "eval_before.jsonl": "evaluation before",
    "eval_after.jsonl": "evaluation after",
    "eval_before_sampled.jsonl": "sampled evaluation before",
    "eval_after_sampled.jsonl": "sampled evaluation after",
}


def _records(file: Path) -> tuple[list[dict[str, Any]], int]:
    """The samples of a file, and how many of its lines are none."""
    found = [record for _, record in json_lines.read(file)]
    samples = [record for record in found if record is not None and _is_sample(record)]
    return samples, len(found) - len(samples)


def _is_sample(record: dict[str, Any]) -> bool:
    """Whether the viewer can draw a record: a text, and lists over its tokens."""
    lists = [record.get(key, []) for key in ("tokens", "hint_mask", "unmask_step")]
    texts = [record.get("completion"), *(lists[0] if isinstance(lists[0], list) else [None])]
    return all(isinstance(text, str) for text in texts) and all(isinstance(x, list) for x in lists)


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


@dataclass(frozen=True)
class ViewerSamples:
    """The samples that a report shows.

    Attributes:
        shown: In the viewer's form.
        logged: How many the runs logged.
        damaged: Lines of their files that are no records: torn, or still being written.
    """

    shown: list[dict[str, Any]]
    logged: int
    damaged: int


def _of_file(run: RunData, name: str, source: str, limit: int) -> ViewerSamples:
    records, damaged = _records(run.folder / name)
    if name == "samples.jsonl" and records and "step" not in records[0]:
        source = "evaluation"
    share = limit if name == "samples.jsonl" else max(1, limit // 4)
    kept = spread(records, share)
    shown = [viewer_record(record, run.name, source) for record in kept]
    return ViewerSamples(shown, len(records), damaged)


def viewer_samples(runs: list[RunData], limit: int) -> ViewerSamples:
    """The samples that a report shows.

    Args:
        limit: About so many training samples over all runs; evaluations add up to half as many.
    """
    share = max(1, limit // max(1, len(runs)))
    parts = [
        _of_file(run, name, source, share)
        for run in runs
        for name, source in (_SOURCES | _suite_sources(run.folder)).items()
    ]
    return ViewerSamples(
        [record for part in parts for record in part.shown],
        sum(part.logged for part in parts),
        sum(part.damaged for part in parts),
    )
