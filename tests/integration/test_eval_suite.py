"""Evaluation suites: stopped and gone on with, and the paper's on its real problems."""

import json
from pathlib import Path

import pytest

from tests.integration.small_runs import SMALL, Runs


def two_benchmarks(tmp_path: Path) -> tuple[str, ...]:
    """Arguments of a suite of two made-up benchmarks at two lengths, one with four samples."""
    (tmp_path / "conf" / "data").mkdir(parents=True)
    for name, sign in (("sums", "+"), ("differences", "-")):
        rows = [
            {"id": f"{name}{i}", "question": f"{i}{sign}1", "solution": None, "answer": str(i)}
            for i in range(3)
        ]
        file = tmp_path / f"{name}.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        (tmp_path / "conf" / "data" / f"{name}.yaml").write_text(f"name: {name}\npath: {file}\n")
    return (
        f"--config-dir={tmp_path / 'conf'}",
        *("stage=eval_suite", "data=mixture", "data.parts=[sums,differences]", *SMALL),
        *("stage.lengths=[8,16]", "+stage.temperatures.sums=1.0", "+stage.samples.sums=4"),
    )


def test_a_stopped_suite_loses_one_benchmark_at_most(runs: Runs, tmp_path: Path) -> None:
    """Two benchmarks at two lengths; the third measurement is killed when it is to be kept."""
    asked = two_benchmarks(tmp_path)
    folder = tmp_path / "run"
    place = "igpo_lightning.reporting.run_files:SampleFile.write"
    faults = [{"target": place, "call": 3, "action": "kill"}]
    assert runs.start(folder, *asked, faults=faults) == -9, runs.log(folder)
    kept = sorted(file.parent.name for file in folder.glob("*/summary.json"))
    assert kept == ["differences_8", "sums_8"]
    times = {name: (folder / name / "samples.jsonl").stat().st_mtime_ns for name in kept}

    assert runs.start(folder, *asked) == 0, runs.log(folder)
    for name, time in times.items():
        assert (folder / name / "samples.jsonl").stat().st_mtime_ns == time
    summary = json.loads((folder / "summary.json").read_text())
    names = ["sums_8", "differences_8", "sums_16", "differences_16"]
    assert [entry["name"] for entry in summary["benchmarks"]] == names
    for entry in summary["benchmarks"]:
        samples = 4 if entry["benchmark"] == "sums" else 1
        accuracy = entry["accuracy"]
        assert (accuracy["problems"], accuracy["samples"]) == (3, samples)
        assert ("pass_at_k" in accuracy) == (samples > 1)
        lines = (folder / entry["name"] / "samples.jsonl").read_text().splitlines()
        verdicts = [json.loads(line)["correct"] for line in lines]
        assert len(verdicts) == 3 * samples
        assert sum(verdicts) / len(verdicts) == pytest.approx(accuracy["mean"])
        assert summary[f"suite/{entry['name']}"] == accuracy["mean"]
    assert f"{runs.model}, 16 tokens" in (folder / "table.md").read_text()

    # Results of other settings do not stand in one table.
    assert runs.start(folder, *asked, "seed=1") == 2
    assert "seed=1" in runs.log(folder)
    assert "resume=null" in runs.log(folder)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_ranks_measure_what_one_does(runs: Runs, tmp_path: Path, strategy: str) -> None:
    """One model and one trainer for four evaluations; near ties of confidence are left out."""
    asked = (*two_benchmarks(tmp_path), "sampler.remasking=random")
    assert runs.start(tmp_path / "one", *asked) == 0, runs.log(tmp_path / "one")
    two = ("trainer.devices=2", f"trainer.strategy={strategy}")
    folder = tmp_path / "two"
    assert runs.start(folder, *asked, *two, ranks=2) == 0, runs.log(folder)
    for name in ("sums_8", "differences_8", "sums_16", "differences_16"):
        for file in ("samples.jsonl", "summary.json"):
            assert (folder / name / file).read_text() == (
                tmp_path / "one" / name / file
            ).read_text()


@pytest.mark.shared
def test_the_papers_suite_on_its_real_problems(igpo, shared_data: Path, tmp_path: Path) -> None:
    done = igpo(
        "experiment=eval_paper",
        "model=tiny",
        "stage.lengths=[32]",
        "stage.samples.amc=2",
        "sampler.steps=8",
        "eval.limit=2",
        "reward.workers=1",
        "hydra.run.dir=run",
        env={"IGPO_DATA_DIR": str(shared_data)},
    )
    for part in ("+ SFT + IGPO", "tiny, 32 tokens", "avg@2 at 0.1", "2 of 1319", "2 of 272"):
        assert part in done.stdout
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert set(summary) >= {f"suite/{n}_32" for n in ("gsm8k", "math500", "amc", "minerva", "mean")}
    assert "harness/flexible_extract" in summary["benchmarks"][0]
    for name, samples in (("gsm8k", 1), ("math500", 1), ("amc", 2), ("minerva", 1)):
        official = [
            json.loads(line)
            for line in (shared_data / f"{name}.test.jsonl").read_text().splitlines()[:2]
        ]
        lines = (tmp_path / "run" / f"{name}_32" / "samples.jsonl").read_text().splitlines()
        records = [json.loads(line) for line in lines]
        asked = sorted((str(p["id"]), number) for p in official for number in range(samples))
        assert [(r["id"], r["sample"]) for r in records] == asked
        assert all(len(r["tokens"]) == len(r["unmask_step"]) <= 32 for r in records)
