"""The tables that a stage ends with."""

from collections import defaultdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from igpo_lightning.evaluation.metrics import Accuracy, accuracy


def _accuracy(entry: dict[str, Any] | None) -> str:
    return str(Accuracy(**entry)) if entry else "not measured"


def _percent(value: float | None) -> str:
    return "not measured" if value is None else f"{100 * value:.1f} %"


def _label(entry: dict[str, Any] | None, total: int | None = None) -> str:
    if entry is None:
        return "accuracy"
    count = entry["problems"]
    part = f"{count} of {total}" if total is not None and total != count else f"{count}"
    name = "accuracy" if entry["samples"] == 1 else f"avg@{entry['samples']}"
    return f"{name} on {part} held-out problems"


def _print(title: str, columns: list[str], rows: list[list[str]], folder: Path) -> None:
    table = Table(title=title, title_justify="left", title_style="bold")
    for i, name in enumerate(columns):
        table.add_column(name, justify="left" if i == 0 else "right")
    for row in rows:
        table.add_row(*row)
    console = Console()
    console.print(table)
    console.print(f"run folder: {folder}", soft_wrap=True, highlight=False, markup=False)


def print_rl_table(folder: Path, summary: dict[str, Any], total: int | None = None) -> None:
    """Accuracy, all-wrong groups and time per phase of an RL run."""
    entry = summary["after"] or summary["before"]
    times = {name: summary.get(f"time/{name}", 0.0) for name in ("rollout", "grading", "update")}
    spent = sum(times.values()) or 1.0
    rows = [
        [
            _label(entry, total),
            _accuracy(summary["before"]),
            _accuracy(summary["after"]),
        ],
        [
            "all-wrong groups, before and after injection",
            _percent(summary.get("group/all_wrong_before")),
            _percent(summary.get("group/all_wrong_after")),
        ],
    ]
    rows += [
        [f"time in {name}", f"{seconds:.1f} s", f"{100 * seconds / spent:.0f} %"]
        for name, seconds in times.items()
    ]
    _print("reinforcement learning", ["", "before", "after"], rows, folder)


def print_sft_table(folder: Path, summary: dict[str, Any]) -> None:
    """Validation loss and accuracy of an SFT run."""
    loss = summary.get("sft/val_loss")
    rows = [
        ["validation loss (nats a token)", "not measured" if loss is None else f"{loss:.4f}"],
        [_label(summary["after"]), _accuracy(summary["after"])],
    ]
    _print("supervised fine-tuning", ["", "after"], rows, folder)


def print_eval_table(
    folder: Path, name: str, summary: dict[str, Any], samples: list[dict[str, Any]], total: int
) -> None:
    """Accuracy over all problems and, where there are levels, on each."""
    rows = [[_label(summary["after"], total), _accuracy(summary["after"])]]
    levels: dict[int, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for sample in samples:
        if sample["level"] is not None:
            levels[sample["level"]][sample["id"]].append(sample["correct"])
    for level in sorted(levels):
        verdicts = list(levels[level].values())
        rows.append([f"  level {level} ({len(verdicts)})", str(accuracy(verdicts))])
    _print(f"evaluation on {name}", ["", "result [95 % interval]"], rows, folder)
