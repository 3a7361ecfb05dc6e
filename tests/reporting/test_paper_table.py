"""The paper's table: its own rows add up, and ours stand below them with intervals."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from igpo_lightning.reporting.html import render
from igpo_lightning.reporting.paper_table import (
    PAPER,
    TITLES,
    print_suite,
    suite_numbers,
    table_rows,
    write_suite,
)
from igpo_lightning.reporting.run_data import read_run
from igpo_lightning.reporting.sweep_table import sweep_row, sweep_table, write_sweep_table


def entry(benchmark: str, length: int, mean: float, samples: int = 1) -> dict[str, Any]:
    """A measurement as stage=eval_suite keeps it."""
    accuracy = {"mean": mean, "low": mean - 0.1, "high": mean + 0.1, "problems": 50}
    accuracy |= {"samples": samples}
    if samples > 1:
        accuracy |= {"pass_at_k": {"1": [mean, 0.1, 0.5], str(samples): [0.9, 0.8, 1.0]}}
    return {
        "name": f"{benchmark}_{length}",
        "benchmark": benchmark,
        "length": length,
        "steps": length // 2,
        "temperature": 0.1 if samples > 1 else 0.0,
        "available": 50,
        "accuracy": accuracy,
    }


FOUR = [entry("gsm8k", 256, 0.8), entry("math500", 256, 0.4), entry("minerva", 256, 0.12)]
FOUR += [entry("amc", 256, 0.2, samples=16)]


@pytest.mark.parametrize("model", PAPER)
def test_the_papers_mean_is_that_of_its_columns(model: str) -> None:
    """Rounded columns: at most 0.05 off each, and the mean another 0.05."""
    *columns, mean = PAPER[model]
    assert abs(sum(columns) / 4 - mean) <= 0.1 + 1e-9


def test_our_row_by_hand() -> None:
    """(80 + 40 + 12 + 20) / 4 = 38."""
    rows = table_rows("mine", FOUR)
    assert [row["model"] for row in rows] == [*PAPER, "mine"]
    ours = rows[-1]
    assert (ours["gsm8k"], ours["gsm8k_low"], ours["gsm8k_high"]) == (80, 70, 90)
    assert (ours["amc"], ours["mean"], ours["length"]) == (20, 38, 256)
    igpo = dict(zip(TITLES, PAPER["+ SFT + IGPO"], strict=False))
    assert igpo == {"gsm8k": 86.8, "math500": 47.4, "amc": 25.9, "minerva": 13.2}


def test_no_mean_without_all_four_benchmarks() -> None:
    rows = table_rows("mine", [*FOUR[:3], entry("aime24", 256, 0.1)])
    assert rows[-1]["mean"] is None
    assert rows[-1]["aime24"] == 10
    assert set(suite_numbers(FOUR)) == {*(f"suite/{e['name']}" for e in FOUR), "suite/mean_256"}
    assert "suite/mean_256" not in suite_numbers(FOUR[:3])


def test_files_and_terminal_say_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    entries = [*FOUR, entry("gsm8k", 512, 0.9)]
    entries[0] = entries[0] | {"available": 1319}
    write_suite(tmp_path, "mine", entries)
    with (tmp_path / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["length"] for row in rows[-2:]] == ["256", "512"]
    assert (rows[-1]["gsm8k"], rows[-1]["mean"], rows[-2]["mean"]) == ("90.0", "", "38.0")
    assert json.loads((tmp_path / "table.json").read_text())[-2]["mean"] == 38
    page = (tmp_path / "table.md").read_text()
    assert "| mine, 256 tokens | 80.0 [70.0, 90.0] | 40.0 [30.0, 50.0] | 20.0 " in page
    assert "| mine, 512 tokens | 90.0 [80.0, 100.0] | - | - | - | - |" in page
    monkeypatch.setenv("COLUMNS", "160")
    print_suite(tmp_path, "mine", entries)
    shown = capsys.readouterr().out
    for part in ("+ length-aligned SFT", "mine, 512 tokens", "avg@16 at 0.1", "50 of 1319"):
        assert part in shown
    assert "no result to cite" in shown  # 50 of 1319


def test_puzzles_stand_without_the_papers_numbers(tmp_path: Path) -> None:
    """The paper measures neither countdown nor sudoku: its rows would hold nothing but dashes."""
    puzzles = [entry("countdown_d1", 128, 0.2), entry("sudoku_d1", 128, 0.1)]
    assert [row["model"] for row in table_rows("mine", puzzles)] == ["mine"]
    write_suite(tmp_path, "mine", puzzles)
    page = (tmp_path / "table.md").read_text()
    assert page.startswith("| model | countdown_d1 | sudoku_d1 | mean |")
    assert "GSM8K" not in page
    assert "Ours are one run" in page


def test_reports_and_sweeps_show_a_suite(tmp_path: Path) -> None:
    folder = tmp_path / "seed=0"
    (folder / "amc_256").mkdir(parents=True)
    (folder / "amc_256" / "measured.yaml").write_text("seed: 0\n")
    sample = {"id": "p", "sample": 0, "question": "q", "answer": "1", "completion": "ab"}
    sample |= {"tokens": ["a", "b"], "unmask_step": [1, 0], "hint_mask": [False, False]}
    line = json.dumps(sample | {"correct": False, "reason": "wrong"})
    (folder / "amc_256" / "samples.jsonl").write_text(line + "\n")
    summary = {"before": None, "after": None, **suite_numbers(FOUR), "benchmarks": FOUR}
    (folder / "summary.json").write_text(json.dumps(summary))
    page = render(folder, 10)
    assert "20.0 % [10.0, 30.0]" in page
    assert "not measured" not in page  # no training, so no accuracy before and after
    assert "pass@k" in page
    assert '"source":"amc_256"' in page
    run = read_run(folder)
    assert sweep_row(run)["gsm8k_256"] == 0.8
    unfinished = replace(run, summary={}, status="unfinished")
    columns = {
        column.header: list(column.cells) for column in sweep_table([run, unfinished]).columns
    }
    assert columns["mean_256"] == ["38.0 %", ""]
    write_sweep_table(tmp_path, [run])
    with (tmp_path / "sweep.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["mean_256"], row["amc_256"]) == ("0.38", "0.2")
