"""Puzzles through the real command line: SFT from random weights, then IGPO from its export."""

import json
from pathlib import Path

import pytest

from tests.integration.test_stages import records

SMALL = (
    "data.train_size=64",
    "data.eval_size=8",
    "eval.split=validation",
    "eval.limit=8",
    "reward.workers=1",
)
RL = ("stage.steps=1", "stage.prompts_per_step=2", "stage.group_size=4", "stage.eval_every=0")


@pytest.mark.parametrize(
    ("name", "steps"), [("countdown", 2), pytest.param("sudoku", 8, marks=pytest.mark.slow)]
)
def test_a_start_and_rl_from_it(igpo, tmp_path: Path, name: str, steps: int) -> None:
    sizes = ("stage.steps=3", "stage.batch_size=4", "stage.val_every=3", "stage.val_limit=4")
    igpo("stage=sft", f"data={name}", *SMALL, *sizes, "hydra.run.dir=start")
    assert json.loads((tmp_path / "start/summary.json").read_text())["after"]["problems"] == 8
    method = ("experiment=igpo_paper", "model=tiny", f"data={name}", "trainer=cpu")
    chosen = ("model.path=start/export", "stage.log_samples_every=1", "hydra.run.dir=run")
    igpo(*method, *SMALL, *RL, *chosen)
    samples = records(tmp_path / "run/samples.jsonl")
    assert len(samples) == 2 * 4
    for sample in samples:
        separator = "; " if name == "countdown" else " "
        assert len(sample["trace"].split(separator)) == steps
        assert sample["answer"] not in sample["trace"], "hints never give it away"
