"""A run that is killed at any moment and started again computes what it would have anyway."""

import random
from pathlib import Path
from typing import Any

import pytest
from small_runs import RL, SFT, Runs, results

# Function and how often a run of RL or SFT calls it, about: in rollout, injection, update,
# evaluation, metrics, and at every stage of writing a checkpoint.
RL_PLACES = {
    "igpo_lightning.evaluation.runner:denoise": 12,
    "igpo_lightning.rl.module:RLModule.inpaint": 5,
    "igpo_lightning.rl.module:RLModule.update": 10,
    "igpo_lightning.rl.module:clipped_step": 10,
    "igpo_lightning.rl.module:RLModule.report": 5,
    "igpo_lightning.evaluation.module:EvaluationModule.validation_step": 4,
    "lightning.pytorch.loggers.csv_logs:CSVLogger.save": 5,
    "igpo_lightning.durable:_flush": 12,
    "igpo_lightning.durable:link": 6,
    "igpo_lightning.durable:remove": 8,
    "torch:save": 5,
}
SFT_PLACES = {
    "igpo_lightning.sft.module:SFTModule.training_step": 6,
    "igpo_lightning.sft.module:SFTModule.validation_step": 3,
    "igpo_lightning.durable:_flush": 8,
}


def kill_often(runs: Runs, folder: Path, args: tuple[str, ...], places: Any, kills: int) -> int:
    """Start the same command until it ends by itself, killed so many times; how often it was."""
    draw, killed = random.Random(0), 0
    for _ in range(kills):
        target = draw.choice(sorted(places))
        fault = {"target": target, "call": draw.randint(1, places[target]), "action": "kill"}
        status = runs.start(folder, *args, faults=[fault])
        assert status in (0, -9), runs.log(folder)
        killed += status == -9
    assert runs.start(folder, *args) == 0, runs.log(folder)
    return killed


def test_a_kill_in_an_update_changes_nothing(runs: Runs, tmp_path: Path) -> None:
    """Killed in the second update of step 3 of 4; the checkpoint before is that of step 3."""
    args = (*RL, "stage.steps=4")
    assert runs.start(tmp_path / "whole", *args) == 0, runs.log(tmp_path / "whole")
    fault = {"target": "igpo_lightning.rl.module:clipped_step", "call": 8, "action": "kill"}
    assert runs.start(tmp_path / "killed", *args, faults=[fault]) == -9
    assert not (tmp_path / "killed" / "summary.json").exists()
    assert runs.start(tmp_path / "killed", *args) == 0, runs.log(tmp_path / "killed")
    expected = results(tmp_path / "whole")
    assert results(tmp_path / "killed") == expected
    assert len(expected["metrics"]) == 4
    assert any(float(row["policy/grad_norm"]) > 0 for row in expected["metrics"])


@pytest.mark.slow
def test_twenty_kills_at_random_places_change_nothing(runs: Runs, tmp_path: Path) -> None:
    # Adapters with dropout: the only thing that draws from torch's global generator.
    args = (*RL, "model.lora.enabled=true", "model.lora.rank=2", "model.lora.dropout=0.2")
    assert runs.start(tmp_path / "whole", *args) == 0, runs.log(tmp_path / "whole")
    killed = kill_often(runs, tmp_path / "killed", (*args, "stage.steps=5"), RL_PLACES, 20)
    assert killed >= 10
    assert results(tmp_path / "killed") == results(tmp_path / "whole")


@pytest.mark.slow
def test_kills_change_nothing_in_fine_tuning(runs: Runs, tmp_path: Path) -> None:
    args = (*SFT, "stage.val_every=2", "stage.val_limit=4")
    assert runs.start(tmp_path / "whole", *args) == 0, runs.log(tmp_path / "whole")
    killed = kill_often(runs, tmp_path / "killed", args, SFT_PLACES, 8)
    assert killed >= 4
    assert results(tmp_path / "killed") == results(tmp_path / "whole")
