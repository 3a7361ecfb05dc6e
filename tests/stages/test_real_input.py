"""Real problems through the real command line: long prompts, LaTeX, problems without a trace."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import igpo_lightning
from igpo_lightning.models.tiny import TinyConfig
from igpo_lightning.models.tokenizer import train_tokenizer

SMALL = [
    "model.init=random",
    "sampler.completion_length=32",
    "sampler.block_length=16",
    "sampler.steps=4",
    "logger=[csv]",
    "trainer.threads=1",
    "eval.limit=3",
    "eval.batch_size=3",
]
pytestmark = [pytest.mark.slow, pytest.mark.shared]


def run(folder: Path, shared_data: Path, *overrides: str) -> Path:
    """Run a stage on the shared folder with an untrained tiny model; gives the run folder."""
    model = folder / "model"
    tokenizer = train_tokenizer(["What is $\\frac{2}{3}$? It is \\boxed{5}."] * 4, 300)
    tokenizer.save_pretrained(model)
    TinyConfig(hidden_size=32, num_hidden_layers=1, intermediate_size=48).save_pretrained(model)
    settings = {
        "IGPO_DATA_DIR": str(shared_data),
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": str(Path(igpo_lightning.__file__).parents[1]),
    }
    command = [sys.executable, "-m", "igpo_lightning", *overrides, f"model.path={model}", *SMALL]
    done = subprocess.run(
        [*command, f"hydra.run.dir={folder / 'run'}"],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder / "run"


def rows(file: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_rl_on_amc(tmp_path: Path, shared_data: Path) -> None:
    rl = ["stage.steps=1", "stage.prompts_per_step=2", "stage.group_size=2"]
    folder = run(tmp_path, shared_data, "stage=rl", "data=amc", *rl, "stage.inner_updates=1")
    trained = {str(row["id"]) for row in rows(folder / "samples.jsonl")}
    assert trained
    assert all(name.startswith("amc10-") for name in trained)  # amc.train
    evaluated = rows(folder / "eval_after.jsonl")
    assert [str(row["id"])[:9] for row in evaluated] == ["amc-aimo-"] * 3  # amc.test


@pytest.mark.parametrize("name", ["gsm8k", "math500", "countdown"])
def test_evaluation(tmp_path: Path, shared_data: Path, name: str) -> None:
    folder = run(tmp_path, shared_data, "stage=eval", f"data={name}")
    samples = rows(folder / "samples.jsonl")
    assert len(samples) == 3
    assert all(str(row["id"]).startswith(name) for row in samples)
    assert {row["correct"] for row in samples} == {False}  # the model is untrained


def test_sft_on_gsm8k(tmp_path: Path, shared_data: Path) -> None:
    folder = run(
        tmp_path,
        shared_data,
        "stage=sft",
        "data=gsm8k",
        "data.limit=40",
        "stage.steps=3",
        "stage.batch_size=4",
        "stage.val_every=3",
        "stage.val_limit=4",
        "stage.max_length=200",
        "stage.padding=longest",
        "stage.timesteps=low_discrepancy",
        "stage.complementary=true",
    )
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert 0 < summary["sft/val_loss"] < 20
