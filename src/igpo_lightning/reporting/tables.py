"""The tables that a stage ends with."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from igpo_lightning.evaluation.metrics import accuracy
from igpo_lightning.reporting.kinds import (
    COUNTED,
    NOT_MEASURED,
    WHEN,
    WINDOW,
    accuracy_text,
    drawn_how,
    evaluated_label,
    percent,
    window_means,
)
from igpo_lightning.reporting.visible import visible
from igpo_lightning.runs.metrics_file import METRICS_FILE, column, read_metrics


def table_of(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """A table whose first column names what the others hold."""
    table = Table(title=Text(visible(title)), title_justify="left", title_style="bold")
    for i, name in enumerate(columns):
        table.add_column(name, justify="left" if i == 0 else "right")
    for row in rows:
        table.add_row(*row)
    return table


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """The same in Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    cells = [[cell.replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in cells)


def print_tables(folder: Path, *parts: Table | str) -> None:
    """Print tables and lines about the run of a folder."""
    console = Console()
    for part in parts:
        console.print(Text(part) if isinstance(part, str) else part, soft_wrap=True)
    console.print(Text(f"run folder: {visible(str(folder))}"), soft_wrap=True)


def print_rl_table(
    folder: Path, summary: dict[str, Any], total: int, temperatures: tuple[float, float]
) -> None:
    """Accuracy; right samples and all-wrong groups with and without injection; time.

    Args:
        total: Problems of the evaluated split.
        temperatures: Of the evaluation, and of the rollouts.
    """
    kinds = {"": drawn_how(temperatures[0]), "_sampled": drawn_how(temperatures[1])}
    accuracies = [
        [name, *(accuracy_text(summary[when + suffix]) for when in WHEN)]
        for suffix, name in kinds.items()
        if f"after{suffix}" in summary
    ]
    evaluated = evaluated_label(summary, total)
    rows = read_metrics(folder / METRICS_FILE)
    steps = len(column(rows, "reward/accuracy")[0])
    counted = []
    for what, metrics in COUNTED.items():
        means = [window_means(rows, name) for name in metrics]
        for end, place in enumerate(("first", "last")):
            cells = [percent(None if mean is None else mean[end]) for mean in means]
            counted.append([f"{what}, {place} {min(WINDOW, steps)} of {steps} steps", *cells])
    times = {name: summary.get(f"time/{name}", 0.0) for name in ("rollout", "grading", "update")}
    spent = sum(times.values()) or 1.0
    told = "time: " + ", ".join(
        f"{name} {t:.1f} s ({100 * t / spent:.0f} %)" for name, t in times.items()
    )
    rollouts = (table_of("rollouts", ["", "as sampled", "after injection"], counted), told)
    print_tables(
        folder,
        table_of(evaluated, ["", "before training", "after training"], accuracies),
        *(rollouts if rows else [f"no {METRICS_FILE}, so nothing about rollouts: add logger=csv"]),
    )


def print_sft_table(folder: Path, summary: dict[str, Any]) -> None:
    """Validation loss and accuracy of an SFT run."""
    loss = summary.get("sft/val_loss")
    rows = [
        ["validation loss (nats per token)", NOT_MEASURED if loss is None else f"{loss:.4f}"],
        [evaluated_label(summary), accuracy_text(summary["after"])],
    ]
    print_tables(folder, table_of("supervised fine-tuning", ["", "after"], rows))


def print_eval_table(
    folder: Path, name: str, summary: dict[str, Any], samples: list[dict[str, Any]], total: int
) -> None:
    """Accuracy over all problems and, where there are levels, on each."""
    rows = [[evaluated_label(summary, total), accuracy_text(summary["after"])]]
    levels: dict[int, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for sample in samples:
        if sample["level"] is not None:
            levels[sample["level"]][sample["id"]].append(sample["correct"])
    for level in sorted(levels):
        verdicts = list(levels[level].values())
        rows.append([f"  level {level} ({len(verdicts)})", str(accuracy(verdicts))])
    print_tables(folder, table_of(f"evaluation on {name}", ["", "result [95 % interval]"], rows))
