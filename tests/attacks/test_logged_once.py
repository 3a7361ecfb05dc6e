"""Every accuracy stands once in metrics.csv and once in TensorBoard, in the parts of a run too."""

import csv
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.integration.small_runs import SMALL, Runs

SFT_THEN_RL = (
    *(key for key in SMALL if not key.startswith(("inpaint", "model.init", "logger"))),
    "stage=sft_then_rl",
    "stage.sft=['stage=sft','stage.batch_size=2','stage.steps=2','model.init=random']",
    "stage.rl=['stage=rl','stage.steps=2','stage.prompts_per_step=2','stage.group_size=2',"
    "'stage.eval_every=1']",
    "logger=[csv,tensorboard]",
)


def logged(part: Path) -> list[int]:
    """Steps of the lines with an accuracy."""
    with (part / "metrics.csv").open(newline="") as file:
        return [int(row["step"]) for row in csv.DictReader(file) if row.get("eval/accuracy")]


def shown(part: Path) -> list[int]:
    """Steps of TensorBoard's points."""
    events = EventAccumulator(str(next(part.rglob("events.out.*")).parent))
    events.Reload()
    return [event.step for event in events.Scalars("eval/accuracy")]


@pytest.mark.slow
def test_sft_then_rl_logs_each_accuracy_once(runs: Runs, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert runs.start(folder, *SFT_THEN_RL) == 0, runs.log(folder)[-3000:]
    for name, steps in (("sft", [2]), ("rl", [0, 1, 2])):
        assert logged(folder / name) == shown(folder / name) == steps
