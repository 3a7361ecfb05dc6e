"""The benchmarks of LLaDA-8B run on a CPU with a narrow model, so that a GPU finds no bug."""

import importlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.timeout(900)


def printed(script: str, *options: str) -> str:
    """What a benchmark says with a narrow model on a CPU."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / script), "--device", "cpu", "--small", *options],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_every_way_to_sample_on_a_gpu_is_a_valid_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    ways = importlib.import_module("llada_8b").ways(64, 64, graphs=True)
    assert {"exact, graphs", "dual, compiled"} < set(ways)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_ways_to_sample(tmp_path: Path) -> None:
    file = tmp_path / "table.json"
    said = printed("llada_8b.py", "--prompt", "8", "--completion", "64", "--json", str(file))
    rows = {row["name"]: row for row in json.loads(file.read_text())["rows"]}
    assert all(f"| {name} |" in said for name in rows)
    assert {"published loop", "ours, exact", "dual", "dual, compiled"} < rows.keys()
    assert all(row["tokens_per_second"] > 0 for row in rows.values())
    # One token a step; a quarter of the steps; the published loop runs all positions every time.
    assert rows["ours, exact"]["passes"] == rows["published loop"]["passes"] == 64
    assert rows["dual, a quarter of the steps"]["passes"] == 16
    assert rows["dual, compiled"]["passes"] == rows["dual"]["passes"]


@pytest.mark.slow
def test_a_step_and_its_export_against_the_plan(tmp_path: Path) -> None:
    said = printed("real_size.py", "--threads", "1", "--folder", str(tmp_path))
    report = json.loads((tmp_path / "real_size.json").read_text())
    rows = {row["phase"]: row for row in report["rows"]}
    assert rows.keys() > {"loading", "sampling", "inpainting", "update", "evaluation", "export"}
    assert all(row["measured"] > 0 for row in rows.values())
    assert report["gradient"] > 0
    assert "gradient norm" in said
    assert rows["export"]["planned"] >= report["exported"]  # a small export is one shard
