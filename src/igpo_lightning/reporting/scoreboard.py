"""The scoreboard: results of methods on benchmarks, ours beside published ones, in one page.

A folder of JSON files holds the entries; the page is made from them and from nothing else. An entry
says how its number was measured and on what, since numbers under two protocols do not compare.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from igpo_lightning.errors import ConfigError
from igpo_lightning.evaluation.intervals import seed_mean
from igpo_lightning.reporting.run_data import RunData
from igpo_lightning.reporting.sweep_settings import Setting
from igpo_lightning.reporting.tables import markdown_table
from igpo_lightning.runs import durable
from igpo_lightning.runs.metrics_file import column
from igpo_lightning.runs.provenance import read_provenance

_COMPUTED = ("compute/rollout", "compute/update")
_HEAD = """# Scoreboard

Accuracy in percent, the best first. Rows compare only where their protocols do: prompt, length,
steps, temperature, number of problems and grader all move a number. An interval is 95 %: over seeds
where there are several, else over problems. A dash means that the source does not say.

This page is made from `scoreboard/*.json`; do not edit it. To add a run or a sweep of your own:

    python -m igpo_lightning stage=report path=RUN stage.scoreboard=docs/scoreboard.md

[evaluation.md](evaluation.md) has the commands that measure a published checkpoint.
"""


@dataclass(frozen=True)
class Entry:
    """One row.

    Attributes:
        method: What trained the model.
        model: What it started from.
        data: Benchmark.
        protocol: How it was measured: metric, temperature, tokens, steps, problems.
        accuracy: In percent; None where the source gives a gain alone.
        gain: Points over the start, where the source gives that alone.
        low, high: 95 % interval in percent.
        seeds: Runs that the accuracy is the mean of.
        compute: What the training took.
        hardware: Device that measured it, with the dtype.
        commit: Of this repository.
        source: Where it is published, or "this repository".
        note: What to know before comparing.
    """

    method: str
    model: str
    data: str
    protocol: str
    source: str
    accuracy: float | None = None
    gain: float | None = None
    low: float | None = None
    high: float | None = None
    seeds: int | None = None
    compute: str = "-"
    hardware: str = "-"
    commit: str = "-"
    note: str = ""

    def result(self) -> str:
        """The accuracy with its interval, or the gain."""
        if self.accuracy is None:
            return "-" if self.gain is None else f"{self.gain:+.1f} points"
        interval = "" if self.low is None else f" [{self.low:.1f}, {self.high:.1f}]"
        return f"{self.accuracy:.1f}{interval}"


_COLUMNS = [
    *("method", "model", "accuracy", "seeds", "protocol", "compute", "hardware, dtype"),
    *("commit", "source"),
]


def page(entries: Sequence[Entry]) -> str:
    """The page of all entries, a section for each benchmark."""
    parts = [_HEAD]
    for data in dict.fromkeys(entry.data for entry in entries):
        rows = [entry for entry in entries if entry.data == data]
        rows.sort(
            key=lambda entry: -1.0 if entry.accuracy is None else entry.accuracy, reverse=True
        )
        notes = list(dict.fromkeys(entry.note for entry in rows if entry.note))
        parts.append(f"## {data}\n\n" + markdown_table(_COLUMNS, map(_row, rows)) + "\n")
        parts += ["\n".join(f"- {note}" for note in notes) + "\n"] if notes else []
    return "\n".join(parts)


def _row(entry: Entry) -> list[str]:
    seeds = "-" if entry.seeds is None else str(entry.seeds)
    cells = [entry.method, entry.model, entry.result(), seeds, entry.protocol, entry.compute]
    return [*cells, entry.hardware, entry.commit, entry.source]


def read_entries(folder: Path) -> list[Entry]:
    """The entries of all files of a folder, in the order of the files' names.

    Raises:
        ConfigError: A file does not hold entries.
    """
    entries: list[Entry] = []
    for file in sorted(folder.glob("*.json")):
        try:
            entries += [Entry(**row) for row in json.loads(file.read_text(encoding="utf-8"))]
        except (TypeError, ValueError) as error:
            fields = ", ".join(Entry.__dataclass_fields__)
            raise ConfigError(f"{file}: {error}; give a list of objects with {fields}") from error
    return entries


def write_scoreboard(file: Path, name: str, settings: Sequence[Setting]) -> int:
    """Put the settings' entries into the folder beside the page, and make the page again.

    Args:
        file: The page; its entries are in the folder of the same name without the ending.
        name: Of the entries' file; one of that name is replaced.
        settings: Of a run or a sweep; none makes the page again and adds nothing.

    Returns:
        How many entries were written.
    """
    folder = file.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    rows = [asdict(entry) for setting in settings for entry in entries_of(setting)]
    if rows:
        durable.write_text(folder / f"{name}.json", json.dumps(rows, indent=1) + "\n")
    durable.write_text(file, page(read_entries(folder)))
    return len(rows)


def entries_of(setting: Setting) -> list[Entry]:
    """An entry for a setting's accuracy, or for each benchmark of an evaluation suite."""
    runs = list(setting.finished.values())
    if not runs:
        return []
    suites = [{e["name"]: e for e in run.summary.get("benchmarks", [])} for run in runs]
    if any(suites):
        return [
            _entry(setting, runs, suites[0][name], [suite[name]["accuracy"] for suite in suites])
            for name in suites[0]
            if all(name in suite for suite in suites)
        ]
    measured = [run.summary.get("after") for run in runs]
    if not all(measured):
        return []
    config = runs[0].config
    how = {
        "benchmark": config["data.test_from"] or config["data.name"],
        "length": config["sampler.completion_length"],
        "steps": config["sampler.steps"],
        "temperature": config["eval.temperature"],
    }
    return [_entry(setting, runs, how, [result for result in measured if result])]


def _entry(
    setting: Setting, runs: list[RunData], how: dict[str, Any], results: list[dict[str, Any]]
) -> Entry:
    first, config = results[0], runs[0].config
    mean = seed_mean([result["mean"] for result in results])
    assert mean is not None, "there is a result"
    low, high = first["low"], first["high"]
    if mean.half is not None:
        low, high = max(0.0, mean.mean - mean.half), min(1.0, mean.mean + mean.half)
    metric = "pass@1" if first["samples"] == 1 else f"avg@{first['samples']}"
    protocol = (
        f"{metric} at temperature {how['temperature']:g}, {how['length']} tokens in {how['steps']} "
        f"steps, {first['problems']} {config['eval.split']} problems"
    )
    made = read_provenance(runs[0].folder)
    spent = [_spent(run) for run in runs]
    tokens = sum(spent) / len(spent)
    chosen = runs[0].overrides.get("experiment", config["stage.name"])
    told = [item for item in setting.told if item != f"experiment={chosen}"]
    return Entry(
        method=", ".join([chosen, *told]),
        model=str(config["model.path"]),
        data=str(how["benchmark"]),
        protocol=protocol,
        source="this repository",
        accuracy=round(100 * mean.mean, 2),
        low=round(100 * low, 2),
        high=round(100 * high, 2),
        seeds=len(runs),
        compute=f"{tokens / 1e6:.1f}M tokens through the model" if tokens else "-",
        hardware=f"{made.get('hardware', '-')}, {config['model.dtype']}",
        commit=made.get("commit") or "-",
    )


def _spent(run: RunData) -> float:
    """Tokens that RL passed through the model, forward and backward."""
    return sum(sum(column(run.metrics, name)[1]) for name in _COMPUTED)
