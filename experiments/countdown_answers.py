"""What training changed in Countdown's answers: a box at the end, and operations that are right.

    python experiments/countdown_answers.py SWEEP ... --into EXPERIMENT --results NAME

Reads the greedy answers of every finished run, takes the mean over seeds, and puts a table into
EXPERIMENT/README.md between the marks of that name.
"""

import argparse
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from compare import named, put_table

from igpo_lightning.data.countdown import operate
from igpo_lightning.reporting.run_data import read_sweep
from igpo_lightning.reporting.sweep_settings import settings_of
from igpo_lightning.reporting.tables import markdown_table
from igpo_lightning.rewards.extraction import STRATEGIES

_OPERATION = re.compile(r"(\d+)([-+*/])(\d+)=(\d+)")
_COLUMNS = ("with a box", "right, of those with a box", "operations that are right")


def shares(answers: Sequence[dict[str, Any]]) -> tuple[float, ...]:
    """Answers with a box, the right ones among these, and the right ones among all operations."""
    boxed = [answer for answer in answers if STRATEGIES["box"](answer["completion"]) is not None]
    operations = [found for answer in answers for found in _OPERATION.findall(answer["completion"])]
    right = 0
    for left, sign, other, value in operations:
        made = operate(int(left), sign, int(other)) if int(other) else None
        right += made is not None and made.value == int(value)
    return (
        len(boxed) / len(answers),
        sum(answer["correct"] for answer in boxed) / max(1, len(boxed)),
        right / max(1, len(operations)),
    )


def answers_of(file: Path) -> list[dict[str, Any]]:
    """The records of an evaluation."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def main() -> None:
    """Read the sweeps, put the table into the README."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("sweeps", type=Path, nargs="+", help="folders of sweeps, taken as one")
    parser.add_argument("--into", type=Path, required=True, help="folder of the experiment")
    parser.add_argument("--results", required=True, help="name of the marks")
    parser.add_argument("--name", action="append", default=[], help="PATTERN=NAME of the settings")
    options = parser.parse_args()
    settings = settings_of([run for sweep in options.sweeps for run in read_sweep(sweep)])
    titles = [f"{column}: {when}" for column in _COLUMNS for when in ("before", "after")]
    rows = []
    for name, setting in named(settings, options.name).items():
        runs = list(setting.finished.values())
        found = {
            when: [shares(answers_of(run.folder / f"eval_{when}.jsonl")) for run in runs]
            for when in ("before", "after")
        }
        cells = [
            f"{100 * sum(values[column] for values in found[when]) / len(runs):.1f}"
            for column in range(len(_COLUMNS))
            for when in ("before", "after")
        ]
        rows.append([name, str(len(runs)), *cells])
    table = markdown_table(["setting", "seeds", *titles], rows)
    put_table(options.into / "README.md", options.results, table)
    print(table)


if __name__ == "__main__":
    main()
