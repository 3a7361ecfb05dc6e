"""The report as text: what it counts, what it shows of runs that failed, and that it is whole."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from igpo_lightning.evaluation.intervals import SeedMean, seed_mean
from igpo_lightning.reporting.html import (
    config_rows,
    header_facts,
    hint_points,
    holds_sweep,
    pass_lines,
    render,
    write_report,
)
from igpo_lightning.reporting.report_plots import band
from igpo_lightning.reporting.run_data import natural_order, read_run, read_sweep, varied_keys
from igpo_lightning.reporting.sweep_settings import Setting, settings_of
from igpo_lightning.reporting.viewer_samples import live_tokens, spread, viewer_samples
from tests.reporting.run_folder import write_run


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Ratios 0.2 and 1.0 with seeds 0 and 1: one run failed, one was cut off, one never began."""
    folder = tmp_path / "sweep"
    for ratio, seed, status in (
        (0.2, 0, "finished"),
        (0.2, 1, "failed"),
        (1.0, 0, "finished"),
        (1.0, 1, "finished"),
        (1.0, 10, "unfinished"),
    ):
        overrides = [f"inpaint.ratio={ratio}", f"seed={seed}", "stage.steps=20"]
        write_run(folder / ",".join(overrides), overrides, status, seed, ratio)
    planned = [["inpaint.ratio=0.2", "seed=0", "stage.steps=20"]]  # known, in another order
    planned += [["seed=7", "stage.steps=20", "inpaint.ratio=0.2"]]
    (folder / "planned.json").write_text(json.dumps(planned))
    return folder


def test_no_run_is_dropped(sweep: Path) -> None:
    runs = read_sweep(sweep)
    assert [run.status for run in runs] == [
        *("finished", "failed", "missing", "finished", "finished", "unfinished")
    ]
    assert runs[1].error == "RuntimeError: out of memory"
    assert varied_keys(runs) == ["inpaint.ratio", "seed"]
    page = render(sweep, 400)
    assert "3 of 6 runs finished" in page
    for status in ("failed", "missing", "unfinished"):
        assert page.count(f'<tr class="{status}">') == 1
    assert "RuntimeError: out of memory" in page


def test_settings_leave_the_seed_out_and_average_finished_runs(sweep: Path) -> None:
    """Ratio 1.0: accuracies 0.60 and 0.61; mean 0.605, standard error 0.01 / sqrt(2) / sqrt(2)."""
    low, high = settings_of(read_sweep(sweep))
    assert (low.label, high.label) == ("inpaint.ratio=0.2", "inpaint.ratio=1.0")
    assert low.summary_mean("after", "mean") == SeedMean(0.6, None, 1)
    result = high.summary_mean("after", "mean")
    assert result is not None
    assert result.mean == pytest.approx(0.605)
    assert result.half == pytest.approx(12.706 * 0.005)  # t with one degree of freedom
    assert result.count == 2


def test_means_over_seeds() -> None:
    assert seed_mean([]) is None
    # 1, 2, 3: variance 1, standard error 1 / sqrt(3); t with two degrees of freedom is 4.303.
    result = seed_mean([1, 2, 3])
    assert result == SeedMean(2, pytest.approx(4.303 / 3**0.5), 3)
    same = seed_mean([3664.448] * 5)
    assert same is not None
    assert same.half == 0  # a mean with rounding would make 6e-13 of it
    many = seed_mean([0.0, 1.0] * 50)  # variance 25 / 99
    assert many is not None
    assert many.half == pytest.approx(1.959964 * (25 / 99 / 100) ** 0.5)


def test_the_band_of_one_seed_is_its_interval_over_problems(tmp_path: Path) -> None:
    line = {"step": 0, "eval/accuracy": 0.5, "eval/accuracy_low": 0.4, "eval/accuracy_high": 0.7}
    run = replace(read_run(write_run(tmp_path / "run", [])), metrics=[line, {"step": 1, "x": 1.0}])
    assert band([run], "eval/accuracy") == ([0], [0.5], [0.4], [0.7])
    other = replace(run, metrics=[{**line, "eval/accuracy": 0.6}])
    assert band([run, other], "eval/accuracy") == ([0], [0.55], [0.5], [0.6])
    assert band([run], "x") == ([1], [1.0], [1.0], [1.0])


def test_bands_reach_over_the_seeds(sweep: Path) -> None:
    """At step 0 the accuracies of seeds 0 and 1 are 0.3 + 0.02 sin(0) and 0.3 + 0.02 sin(1)."""
    runs = [run for run in read_sweep(sweep) if run.status == "finished"]
    steps, means, low, high = band(runs, "eval/accuracy")
    assert steps == [0, 5, 10, 15]
    assert (low[0], high[0]) == pytest.approx((0.3, 0.31683), abs=1e-5)
    assert means[0] == pytest.approx((0.3 + 0.3 + 0.31683) / 3, abs=1e-5)


def test_the_page_stands_alone(sweep: Path) -> None:
    page = render(sweep, 400)
    addresses = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert addresses
    assert all(address.startswith(("#", "data:")) for address in addresses)
    assert "@import" not in page
    assert "<script src" not in page
    assert 'class="differs"><th scope="row">inpaint.ratio</th><td>0.2 · 1.0</td>' in page


def test_a_single_run(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", ["inpaint.ratio=0.4"], ratio=0.4)
    assert not holds_sweep(run)
    file = write_report(run, 400)
    page = file.read_text(encoding="utf-8")
    assert file == run / "report.html"
    assert "60.0 % [55.0, 65.0]" in page
    assert "22 of 22 logged samples" in page
    for title in ("share of all-wrong groups", "hinted samples", "time of a step by phase"):
        assert title in page
    data = re.search(r'id="data">(.*?)</script>', page, re.DOTALL)
    assert data is not None
    samples = json.loads(data.group(1))
    assert samples[0]["question"] == "What is 0 + 1? <b>&amp;</b></script>"
    assert samples[3]["hints"] == [0, 3, 6, 9, 12, 15, 18, 21]
    assert samples[0]["live"] == 22


def test_a_run_that_measured_nothing_has_a_page(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", ["seed=1"], "failed")
    page = render(run, 400)
    assert "No metrics were logged." in page
    assert "No samples were logged." in page
    assert "out of memory" in page


def test_a_line_that_is_still_being_written_is_left_out(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [])
    with (run / "samples.jsonl").open("a") as file:
        file.write('{"step": 20, "id": "cut o')
    assert viewer_samples([read_run(run)], 400).logged == 22


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 30), st.integers(1, 8), st.integers(1, 60))
def test_samples_are_whole_steps_spread_to_the_last(steps: int, rows: int, limit: int) -> None:
    records = [{"step": step, "row": row} for step in range(steps) for row in range(rows)]
    kept = spread(records, limit)
    assert len(kept) == min(limit, len(records)) or len(kept) % rows == 0
    assert 0 < len(kept) <= limit
    assert kept[-1]["step"] == steps - 1
    assert [r for r in records if r in kept] == kept


def test_live_tokens_end_with_the_text() -> None:
    # Empty strings are parts of a character whose text comes with its last token.
    assert live_tokens(["a", "", "é", "<eos>"], "aé") == 3
    assert live_tokens(["<eos>", "<eos>"], "") == 0
    assert live_tokens(["a", "b"], "ab") == 2


def test_order_of_names_counts() -> None:
    names = ["seed=10", "seed=9", "lr=1"]
    assert sorted(names, key=natural_order) == ["lr=1", "seed=9", "seed=10"]


def test_pass_at_k_is_drawn_where_it_was_measured(tmp_path: Path) -> None:
    """Two seeds with k = 1, 2: the line is their mean, the band reaches from one to the other."""
    for seed, mean in ((0, 0.2), (1, 0.4)):
        run = write_run(tmp_path / "sweep" / f"seed={seed}", [f"seed={seed}"], seed=seed)
        summary = json.loads((run / "summary.json").read_text())
        assert "pass@k" not in render(run, 10)
        summary["after"]["pass_at_k"] = {"1": [mean, 0.1, 0.5], "2": [2 * mean, 0.3, 0.9]}
        (run / "summary.json").write_text(json.dumps(summary))
        assert "pass@k" in render(run, 10)
    (setting,) = settings_of(read_sweep(tmp_path / "sweep"))
    ((label, points),) = pass_lines([setting]).items()
    assert label == "all runs"
    assert points[1] == pytest.approx((0.3, 0.2, 0.4))
    assert points[2] == pytest.approx((0.6, 0.4, 0.8))
    alone = Setting((), setting.runs[:1])
    assert pass_lines([alone])["run"][2] == (0.4, 0.3, 0.9)


def test_lines_that_are_no_samples_are_left_out_and_counted(tmp_path: Path) -> None:
    """A number, a torn line and a sample whose tokens are no list; U+2028 splits nothing."""
    run = write_run(tmp_path / "run", [])
    file = run / "samples.jsonl"
    odd = json.dumps({"completion": "a\u2028b", "step": 19}, ensure_ascii=False)
    wrong = '{"completion": "x", "tokens": 3}'
    with file.open("ab") as lines:
        lines.write(f"{odd}\n5\n{wrong}\n".encode() + b'{"completion": "\xe2\x80')
    page = render(run, 400)
    assert "23 of 23 logged samples. 3 damaged lines left out." in page


def test_one_seed_has_the_interval_over_problems(tmp_path: Path) -> None:
    """The summaries' interval is 0.05 to either side."""
    for ratio in (0.0, 0.4):
        write_run(tmp_path / str(ratio), [f"inpaint.ratio={ratio}"], ratio=ratio)
    points = hint_points(settings_of(read_sweep(tmp_path)))
    assert [(low, high) for low, high, _, _ in points] == [(0.0, 0.0), (0.4, 0.4)]
    assert [result.half for *_, result in points] == pytest.approx([0.05, 0.05])


def test_the_header_says_what_was_trained_with_what(tmp_path: Path) -> None:
    """130 s of rollouts and 65 s of updates are 3 min 15 s."""
    run = write_run(tmp_path / "run", [], seed=4)
    (run / "provenance.json").write_text(
        json.dumps({"started": "2026-01-02", "commit": "abc123", "versions": {"torch": "2.13"}})
    )
    summary = json.loads((run / "summary.json").read_text())
    summary |= {"time/rollout": 130.0, "time/update": 65.0}
    (run / "summary.json").write_text(json.dumps(summary))
    assert header_facts(read_run(run)) == {
        "stage": "rl",
        "seed": "4",
        "started": "2026-01-02",
        "time in steps": "3 min 15 s",
        "commit": "abc123",
        "versions": "torch 2.13",
    }


def test_no_curve_is_drawn_twice(tmp_path: Path) -> None:
    """Reward and accuracy are the same numbers unless another reward adds to them."""
    run = write_run(tmp_path / "run", [])
    assert "mean reward before injection" not in render(run, 10)
    text = (run / "metrics.csv").read_text().splitlines()
    place = text[0].split(",").index("reward/mean_before")
    cells = text[1].split(",")
    cells[place] = "7"
    (run / "metrics.csv").write_text("\n".join([text[0], ",".join(cells), *text[2:]]))
    assert "mean reward before injection" in render(run, 10)


def test_where_runs_lie_is_no_difference_between_them(tmp_path: Path) -> None:
    for seed in (0, 1):
        folder = tmp_path / "sweep" / str(seed)
        write_run(folder, [f"seed={seed}", f"hydra.run.dir={folder}"], seed=seed)
        config = folder / "config.yaml"
        config.write_text(config.read_text() + f"logger:\n  csv:\n    save_dir: {folder}\n")
    runs = read_sweep(tmp_path / "sweep")
    assert varied_keys(runs) == ["seed"]
    assert len(settings_of(runs)) == 1
    assert [key for key, _, differs in config_rows(runs) if differs] == ["seed"]
