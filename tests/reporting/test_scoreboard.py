"""The scoreboard: a page made of entries, to which one command adds a run or a sweep."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from igpo_lightning.errors import ConfigError
from igpo_lightning.reporting.paper_table import PAPER, TITLES
from igpo_lightning.reporting.scoreboard import Entry, page, read_entries, write_scoreboard
from igpo_lightning.stages import run
from tests.composing import composed

BOARD = Path(__file__).resolve().parents[2] / "docs/scoreboard.md"


def entry(**values: Any) -> Entry:
    given = {"method": "GRPO", "model": "tiny", "data": "countdown", "protocol": "pass@1"}
    return Entry(**{**given, "source": "here", **values})


def write_run(folder: Path, overrides: list[str], accuracy: float, **summary: Any) -> None:
    """A finished run with 300 tokens passed through the model."""
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "overrides.yaml").write_text(json.dumps(overrides))
    (folder / "config.yaml").write_text(
        "stage: {name: rl}\nmodel: {path: tiny_countdown, dtype: float32}\n"
        "data: {name: countdown, test_from: null}\neval: {temperature: 0.0, split: test}\n"
        "sampler: {completion_length: 48, steps: 24}\n"
    )
    (folder / "provenance.json").write_text('{"commit": "abc", "hardware": "A CPU"}')
    after = {"mean": accuracy, "low": 0.1, "high": 0.9, "problems": 256, "samples": 1}
    (folder / "summary.json").write_text(json.dumps({"after": after, **summary}))
    with (folder / "metrics.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["step", "compute/rollout", "compute/update"])
        writer.writeheader()
        writer.writerow({"step": 0, "compute/rollout": 100e6, "compute/update": 200e6})


def test_the_best_row_of_a_benchmark_comes_first_and_a_gain_last() -> None:
    rows = [
        entry(method="A", accuracy=10.0),
        entry(method="B", gain=51.6),
        entry(method="C", accuracy=20.0, low=15.0, high=25.0),
        entry(method="D", data="sudoku", accuracy=99.0, note="Mind | this."),
    ]
    text = page(rows)
    sections = text.split("\n## ")
    assert [part.split("\n")[0] for part in sections[1:]] == ["countdown", "sudoku"]
    methods = [line.split(" | ")[0][2:] for line in sections[1].splitlines() if line[:2] == "| "]
    assert methods == ["method", "---", "C", "A", "B"]
    assert "20.0 [15.0, 25.0]" in text
    assert "+51.6 points" in text
    assert "- Mind | this." in sections[2]


def test_a_sweep_is_added_by_setting_with_an_interval_over_seeds(tmp_path: Path) -> None:
    sweep, board = tmp_path / "mine", tmp_path / "board.md"
    for inpaint in ("none", "partial"):
        for seed, accuracy in ((0, 0.2), (1, 0.4)):
            overrides = ["experiment=igpo_paper", f"inpaint={inpaint}", f"seed={seed}"]
            write_run(sweep / f"{inpaint}{seed}", overrides, accuracy)
    done = run(
        composed("stage=report", "logger=[]", f"path='{sweep}'", f"stage.scoreboard='{board}'")
    )
    assert done == {"scoreboard": str(board), "added": 2}
    first, second = read_entries(tmp_path / "board")
    assert (first.method, second.method) == (
        "igpo_paper, inpaint=none",
        "igpo_paper, inpaint=partial",
    )
    assert (first.accuracy, first.seeds, first.data) == (30.0, 2, "countdown")
    assert first.high == 100.0, "30 ± 12.706 * 10, cut at 100"
    assert first.protocol == "pass@1 at temperature 0, 48 tokens in 24 steps, 256 test problems"
    assert (first.compute, first.hardware) == ("300.0M tokens through the model", "A CPU, float32")
    assert board.read_text() == page([first, second])
    # The same command again replaces what it added.
    run(composed("stage=report", "logger=[]", f"path='{sweep}'", f"stage.scoreboard='{board}'"))
    assert len(read_entries(tmp_path / "board")) == 2


def test_a_suite_gives_an_entry_for_each_benchmark(tmp_path: Path) -> None:
    accuracy = {"mean": 0.5, "low": 0.4, "high": 0.6, "problems": 500, "samples": 16}
    how = {"length": 256, "steps": 128, "temperature": 0.1, "accuracy": accuracy}
    rows = [how | {"name": f"{name}_256", "benchmark": name} for name in ("amc", "sudoku_d1")]
    write_run(tmp_path / "run", ["experiment=eval_d1"], 0.0, after=None, benchmarks=rows)
    board = tmp_path / "board.md"
    run(
        composed(
            "stage=report", "logger=[]", f"path='{tmp_path}/run'", f"stage.scoreboard='{board}'"
        )
    )
    amc, sudoku = read_entries(tmp_path / "board")
    assert (amc.data, sudoku.data, amc.method) == ("amc", "sudoku_d1", "eval_d1")
    assert (amc.accuracy, amc.low, amc.high, amc.seeds) == (50.0, 40.0, 60.0, 1)
    assert amc.protocol == "avg@16 at temperature 0.1, 256 tokens in 128 steps, 500 test problems"


def test_mistakes(tmp_path: Path) -> None:
    board = tmp_path / "board.md"
    with pytest.raises(ConfigError, match="no finished run with an accuracy"):
        run(
            composed(
                "stage=report", "logger=[]", f"path='{tmp_path}'", f"stage.scoreboard='{board}'"
            )
        )
    with pytest.raises(ConfigError, match=r"give a file that ends in \.md"):
        composed("stage=report", "path=x", "stage.scoreboard=x.html")
    (tmp_path / "board" / "bad.json").write_text('[{"who": 1}]')
    with pytest.raises(ConfigError, match=r"bad\.json.*give a list of objects with method"):
        read_entries(tmp_path / "board")


def test_the_page_of_the_repository_is_what_its_entries_say(tmp_path: Path) -> None:
    entries = read_entries(BOARD.with_suffix(""))
    assert BOARD.read_text(encoding="utf-8") == page(entries), (
        "run python -m igpo_lightning stage=report path=docs/scoreboard "
        "stage.scoreboard=docs/scoreboard.md to write it again"
    )
    ours = [e for e in entries if e.source == "this repository"]
    assert all(e.commit != "-" and e.hardware != "-" and e.seeds for e in ours)


def test_the_papers_numbers_are_those_of_its_table() -> None:
    found = {
        (e.data, e.accuracy)
        for e in read_entries(BOARD.with_suffix(""))
        if e.source == "arXiv 2509.10396"
    }
    table = {
        (name, value) for row in PAPER.values() for name, value in zip(TITLES, row, strict=False)
    }
    assert found == table


def test_nothing_to_add_writes_the_page_again(tmp_path: Path) -> None:
    board = tmp_path / "board.md"
    (tmp_path / "board").mkdir()
    (tmp_path / "board" / "own.json").write_text(json.dumps([vars(entry(accuracy=1.0))]))
    assert write_scoreboard(board, "none", []) == 0
    assert "| GRPO | tiny | 1.0 |" in board.read_text()
