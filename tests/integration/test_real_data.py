"""Real problems flow through the real command: long prompts, LaTeX, problems without a trace."""

import json
from pathlib import Path

import pytest


def lines(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.mark.shared
def test_rl_on_amc(igpo, shared_data: Path, tmp_path: Path) -> None:
    done = igpo(
        "stage=rl",
        "data=amc",
        "stage.steps=1",
        "stage.prompts_per_step=2",
        "stage.group_size=2",
        "stage.inner_updates=1",
        "sampler.completion_length=64",
        "sampler.steps=8",
        "eval.limit=4",
        "reward.workers=1",
        "hydra.run.dir=run",
        env={"IGPO_DATA_DIR": str(shared_data)},
    )
    assert "4 of 83" in done.stdout
    test = {p["id"]: p for p in lines(shared_data / "amc.test.jsonl")}
    for sample in lines(tmp_path / "run" / "eval_after.jsonl"):
        assert sample["answer"] == str(test[sample["id"]]["answer"])
    train = {p["id"]: p for p in lines(shared_data / "amc.train.jsonl")}
    samples = lines(tmp_path / "run" / "samples.jsonl")
    assert len(samples) == 4
    assert all(s["id"] in train and s["answer"] == train[s["id"]]["answer"] for s in samples)


@pytest.mark.shared
@pytest.mark.parametrize("name", ["gsm8k", pytest.param("math500", marks=pytest.mark.slow)])
def test_evaluation_on_real_test_sets(igpo, shared_data: Path, tmp_path: Path, name: str) -> None:
    igpo(
        "stage=eval",
        f"data={name}",
        "eval.limit=3",
        "sampler.completion_length=32",
        "sampler.steps=4",
        "reward.workers=1",
        "hydra.run.dir=run",
        env={"IGPO_DATA_DIR": str(shared_data)},
    )
    official = {p["id"]: p["answer"] for p in lines(shared_data / f"{name}.test.jsonl")}
    samples = lines(tmp_path / "run" / "samples.jsonl")
    assert len(samples) == 3
    assert all(official[s["id"]] == s["answer"] for s in samples)
