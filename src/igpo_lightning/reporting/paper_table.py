"""The paper's table with our rows below it: in the terminal, and as Markdown, CSV and JSON."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from igpo_lightning.evaluation.metrics import Accuracy
from igpo_lightning.reporting.tables import markdown_table, print_tables, table_of
from igpo_lightning.runs import durable

SOURCE = "arXiv 2509.10396"
TITLES = {"gsm8k": "GSM8K", "math500": "MATH500", "amc": "AMC", "minerva": "Minerva"}
# Percent, means over three seeds: GSM8K, MATH500 and Minerva pass@1 at temperature 0, AMC avg@16 at
# 0.1. The last column is the paper's own mean.
PAPER: dict[str, tuple[float, float, float, float, float]] = {
    "LLaDA-8B-Instruct": (81.5, 39.0, 14.5, 9.2, 36.0),
    "LLaDA-1.5": (83.3, 42.6, 13.6, 8.8, 37.1),
    "+ UniGRPO": (82.2, 39.2, 15.0, 11.0, 36.9),
    "+ diffu-GRPO": (82.4, 40.2, 15.5, 10.3, 37.1),
    "+ IGPO": (83.1, 42.8, 17.5, 12.1, 38.9),
    "+ length-aligned SFT": (83.6, 45.2, 22.3, 10.3, 40.4),
    "+ SFT + IGPO": (86.8, 47.4, 25.9, 13.2, 43.3),
}
_EMPTY = "-"

Entry = Mapping[str, Any]  # see stages/eval_suite.py: a measurement and its result


def beside_paper(entries: Sequence[Entry]) -> bool:
    """Whether a benchmark of the paper was measured, so that its numbers stand above ours."""
    return any(entry["benchmark"] in TITLES for entry in entries)


def benchmarks_of(entries: Sequence[Entry]) -> list[str]:
    """The paper's benchmarks in its order, if any was measured, and then the others that were."""
    titles = list(TITLES) if beside_paper(entries) else []
    return list(dict.fromkeys([*titles, *(entry["benchmark"] for entry in entries)]))


def by_length(entries: Sequence[Entry]) -> dict[int, dict[str, Entry]]:
    """Length: benchmark: result."""
    found: dict[int, dict[str, Entry]] = {}
    for entry in entries:
        found.setdefault(entry["length"], {})[entry["benchmark"]] = entry
    return found


def paper_mean(results: Mapping[str, Entry]) -> float | None:
    """The paper's last column: the mean of its four benchmarks; None unless all are measured."""
    if not all(name in results for name in TITLES):
        return None
    return float(sum(results[name]["accuracy"]["mean"] for name in TITLES) / len(TITLES))


def suite_numbers(entries: Sequence[Entry]) -> dict[str, float]:
    """Results by the names that runs are compared by: suite/gsm8k_256, ..., suite/mean_256, ..."""
    numbers = {f"suite/{entry['name']}": entry["accuracy"]["mean"] for entry in entries}
    means = {f"suite/mean_{n}": paper_mean(found) for n, found in by_length(entries).items()}
    return numbers | {name: mean for name, mean in means.items() if mean is not None}


def table_rows(model: str, entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """A row for each of the paper's models, and one for ours at each length; numbers in percent.

    The paper's rows are left out where none of its benchmarks was measured.
    Ours have `BENCHMARK_low` and `BENCHMARK_high`, the 95 % interval over problems.
    """
    rows: list[dict[str, Any]] = []
    for name, numbers in PAPER.items() if beside_paper(entries) else ():
        columns = dict(zip([*TITLES, "mean"], numbers, strict=True))
        rows.append({"model": name, "source": SOURCE, "length": None, **columns})
    for length, results in by_length(entries).items():
        row: dict[str, Any] = {"model": model, "source": "this run", "length": length}
        for name, entry in results.items():
            for key, column in (("mean", ""), ("low", "_low"), ("high", "_high")):
                row[name + column] = round(100 * entry["accuracy"][key], 2)
        mean = paper_mean(results)
        rows.append(row | {"mean": None if mean is None else round(100 * mean, 2)})
    return rows


def _cells(row: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """A row of the table for people."""
    label = row["model"] if row["length"] is None else f"{row['model']}, {row['length']} tokens"
    cells = [label]
    for name in names:
        low, high = row.get(f"{name}_low"), row.get(f"{name}_high")
        value = row.get(name)
        interval = "" if low is None else f" [{low:.1f}, {high:.1f}]"
        cells.append(_EMPTY if value is None else f"{value:.1f}{interval}")
    return [*cells, _EMPTY if row["mean"] is None else f"{row['mean']:.1f}"]


def _how(entries: Sequence[Entry]) -> list[list[str]]:
    """What was measured how, a row for each measurement."""
    rows: list[list[str]] = []
    for entry in entries:
        result = Accuracy(**entry["accuracy"])
        count, total = result.problems, entry["available"]
        metric = "pass@1" if result.samples == 1 else f"avg@{result.samples}"
        rows.append(
            [
                str(TITLES.get(entry["benchmark"], entry["benchmark"])),
                f"{entry['length']} in {entry['steps']} steps",
                f"{metric} at {entry['temperature']:g}",
                str(count) if count == total else f"{count} of {total}",
                str(result),
            ]
        )
    return rows


_HOW = ["benchmark", "tokens", "metric, temperature", "problems", "result [95 % interval]"]


def _notes(entries: Sequence[Entry]) -> list[str]:
    """What a reader has to know before comparing rows."""
    ours = "ours are one run, with 95 % intervals over problems."
    paper = f"The upper rows are the paper's ({SOURCE}), means over three seeds; "
    notes = [paper + ours if beside_paper(entries) else ours.capitalize()]
    part = [entry for entry in entries if entry["accuracy"]["problems"] < entry["available"]]
    if part:
        notes.append(
            "Not all problems were asked (eval.limit, prompt.max_length): no result to cite."
        )
    for entry in entries:
        if "harness/flexible_extract" in entry:
            notes.append(
                f"{entry['name']} as lm-evaluation-harness scores these texts: "
                f"{100 * entry['harness/flexible_extract']:.1f} % by flexible-extract, "
                f"{100 * entry['harness/strict_match']:.1f} % by strict-match; flexible-extract "
                f"agrees with our grader on {100 * entry['harness/agreement']:.1f} % of them."
            )
        if "d1/cell_accuracy" in entry:
            notes.append(
                f"{entry['name']} as d1 scores these texts: {100 * entry['d1/cell_accuracy']:.1f} "
                "% of the empty cells are right; our accuracy counts whole grids."
            )
    return notes


def _columns(entries: Sequence[Entry]) -> list[str]:
    return ["model", *(TITLES.get(name, name) for name in benchmarks_of(entries)), "mean"]


def write_suite(folder: Path, model: str, entries: Sequence[Entry]) -> None:
    """Write table.md, table.csv and table.json into the run folder."""
    rows, names = table_rows(model, entries), benchmarks_of(entries)
    shown = markdown_table(_columns(entries), [_cells(row, names) for row in rows])
    how = markdown_table(_HOW, _how(entries))
    notes = "\n".join(f"{note}\n" for note in _notes(entries))
    durable.write_text(folder / "table.md", f"{shown}\n\n{how}\n\n{notes}")
    columns = [c for name in names for c in (name, f"{name}_low", f"{name}_high")]
    text = io.StringIO()
    writer = csv.DictWriter(text, ["model", "source", "length", *columns, "mean"])
    writer.writeheader()
    writer.writerows(rows)
    durable.write_text(folder / "table.csv", text.getvalue())
    durable.write_text(folder / "table.json", json.dumps(rows, indent=2) + "\n")


def print_suite(folder: Path, model: str, entries: Sequence[Entry]) -> None:
    """Print the paper's table with our rows, how they were measured, and what to know of them."""
    names = benchmarks_of(entries)
    table = table_of("accuracy in percent", _columns(entries), [])
    for row in table_rows(model, entries):
        ours = row["length"] is not None
        table.add_row(*_cells(row, names), style="bold" if ours else None)
    how = table_of("how it was measured", _HOW, _how(entries))
    print_tables(folder, table, how, *_notes(entries))
