"""A signal within an evaluation in training is obeyed at once; nothing is lost or doubled."""

from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.integration.small_runs import RL, SFT, Runs, results

# 4 problems in 2 batches, each greedy and sampled: calls 1 to 4 before training, 5 to 8 after step
# 2, 9 to 12 after step 4.
ARGS = (*RL, "stage.steps=4", "eval.batch_size=2", "logger=[csv,tensorboard]")
ADD = "igpo_lightning.evaluation.evaluation:Evaluation.add"
VALIDATE = "igpo_lightning.sft.module:SFTModule.validation_step"


def points(folder: Path, name: str) -> list[tuple[int, float]]:
    """What TensorBoard shows of a metric."""
    events = EventAccumulator(str(next(folder.rglob("events.out.*")).parent))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(name)]


@pytest.fixture(scope="module")
def whole(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "whole"
    assert runs.start(folder, *ARGS) == 0, runs.log(folder)
    return folder


def same(folder: Path, whole: Path, metric: str) -> None:
    assert results(folder) == results(whole)
    assert points(folder, metric) == points(whole, metric)
    link = Path("checkpoints") / "best.ckpt"
    assert (folder / link).readlink() == (whole / link).readlink()


@pytest.mark.parametrize("call", [5, 7, 12])
def test_a_signal_within_an_evaluation_is_obeyed_at_once(
    runs: Runs, whole: Path, tmp_path: Path, call: int
) -> None:
    """At the start of one, in its midst, and in that after the last step."""
    folder = tmp_path / "run"
    fault = {"target": ADD, "call": call, "action": "terminate"}
    assert runs.start(folder, *ARGS, faults=[fault]) == 143, runs.log(folder)
    step = 2 if call < 9 else 4
    assert f"step-{step}.ckpt. Resume with: python -m igpo_lightning " in runs.log(folder)
    assert "Traceback" not in runs.log(folder)
    assert runs.start(folder, *ARGS) == 0, runs.log(folder)
    same(folder, whole, "eval/accuracy")
    assert [step for step, _ in points(folder, "eval/accuracy")] == [0, 2, 4]


def test_a_signal_between_an_evaluation_and_its_checkpoint_doubles_nothing(
    runs: Runs, whole: Path, tmp_path: Path
) -> None:
    """The second checkpoint is that of step 2, after its evaluation."""
    save = "igpo_lightning.runs.checkpoints:RunCheckpoints.save"
    fault = {"target": save, "call": 2, "action": "terminate"}
    folder = tmp_path / "run"
    assert runs.start(folder, *ARGS, faults=[fault]) == 143, runs.log(folder)
    assert "step-2.ckpt. Resume with: python -m igpo_lightning " in runs.log(folder)
    assert runs.start(folder, *ARGS) == 0, runs.log(folder)
    same(folder, whole, "eval/accuracy")


def test_a_signal_in_the_step_before_an_evaluation_does_not_wait_for_it(
    runs: Runs, whole: Path, tmp_path: Path
) -> None:
    """A second one, and a kill, come in the evaluation that the resumed run begins with."""
    folder = tmp_path / "run"
    step = {"target": "igpo_lightning.rl.module:clipped_step", "call": 4, "action": "usr1"}
    evaluated = {"target": ADD, "call": 5, "action": "kill"}
    status = runs.start(folder, *ARGS, faults=[step, evaluated], grace=60)
    assert status == 138, runs.log(folder)
    again = {"target": ADD, "call": 2, "action": "terminate"}
    assert runs.start(folder, *ARGS, faults=[again]) == 143, runs.log(folder)
    assert runs.start(folder, *ARGS, faults=[again | {"action": "kill"}]) == -9
    assert runs.start(folder, *ARGS) == 0, runs.log(folder)
    same(folder, whole, "eval/accuracy")


# 4 traces in 2 batches, after steps 3 and 6, the last.
TUNED = (
    *(*SFT, "stage.val_every=3", "stage.val_limit=4", "stage.train_batch_size=2"),
    *("logger=[csv,tensorboard]", "stage.eval_after=false", "stage.batch_size=2"),
)


@pytest.fixture(scope="module")
def tuned(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "tuned"
    assert runs.start(folder, *TUNED) == 0, runs.log(folder)
    return folder


@pytest.mark.parametrize("call", [2, 4])
def test_a_signal_within_the_validation_of_fine_tuning(
    runs: Runs, tuned: Path, tmp_path: Path, call: int
) -> None:
    fault = {"target": VALIDATE, "call": call, "action": "terminate"}
    folder = tmp_path / "run"
    assert runs.start(folder, *TUNED, faults=[fault]) == 143, runs.log(folder)
    assert runs.start(folder, *TUNED) == 0, runs.log(folder)
    same(folder, tuned, "sft/val_loss")
    assert [step for step, _ in points(folder, "sft/val_loss")] == [3, 6]
