"""A signal within a step of many minutes: left between two passes or micro-batches."""

import re
from pathlib import Path

import pytest

from tests.integration.small_runs import RL, SFT, Runs, results

ARGS = (*RL, "stage.steps=3", "stage.eval_every=0", "stage.eval_before=false")
SLOW = ("stage.checkpoint_every=100", "stage.train_batch_size=3")
PASS = "igpo_lightning.diffusion.slots:run_step"
MICRO_BATCH = "igpo_lightning.rl.module:policy_loss"
STATUS = {"terminate": ("SIGTERM", 143), "interrupt": ("SIGINT", 130), "usr1": ("SIGUSR1", 138)}
UPDATE = "igpo_lightning.rl.module:clipped_step"


@pytest.fixture(scope="module")
def whole(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing happened to."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    assert runs.start(folder, *ARGS, *SLOW) == 0, runs.log(folder)
    return folder


def rollout_passes(folder: Path) -> int:
    """Of all steps of a run."""
    return sum(int(float(row.get("passes/rollout", 0))) for row in results(folder)["metrics"])


SAVED, LOST = r"saved \S+step-", "left a step that is not done; there is no checkpoint yet"


# Two updates of two micro-batches a step: calls 5 to 8 are those of step 2.
@pytest.mark.parametrize(
    ("target", "call", "action", "says"),
    [
        pytest.param(PASS, -3, "terminate", f"{SAVED}2.ckpt", id="rollout"),
        pytest.param(UPDATE, 3, "usr1", LOST, id="second update"),
        pytest.param(PASS, -3, "interrupt", f"{SAVED}2.ckpt", id="Ctrl-C", marks=pytest.mark.slow),
        pytest.param(
            MICRO_BATCH, 5, "usr1", f"{SAVED}1.ckpt", id="first update", marks=pytest.mark.slow
        ),
        pytest.param(MICRO_BATCH, 1, "terminate", LOST, id="first step", marks=pytest.mark.slow),
    ],
)
def test_a_long_step_is_left_and_made_again(
    runs: Runs, whole: Path, tmp_path: Path, target: str, call: int, action: str, says: str
) -> None:
    if call < 0:  # in the last step's rollout
        call += rollout_passes(whole)
    fault = {"target": target, "call": call, "action": action}
    name, status = STATUS[action]
    folder = tmp_path / "run"
    assert runs.start(folder, *ARGS, *SLOW, faults=[fault], grace=0) == status, runs.log(folder)
    text = runs.log(folder)
    assert re.search(f"{name}: {says}.*Resume with: python -m igpo_lightning ", text), text
    assert "Traceback" not in text
    assert runs.start(folder, *ARGS, *SLOW) == 0, runs.log(folder)
    assert results(folder) == results(whole)


@pytest.mark.slow
def test_a_step_of_a_minute_is_left_within_seconds(runs: Runs, whole: Path, tmp_path: Path) -> None:
    """Every pass takes two seconds, as those of a large model do."""
    faults = [{"target": PASS, "call": 0, "action": "pause"}]
    faults += [{"target": PASS, "call": 3, "action": "terminate"}]
    faults += [{"target": PASS, "call": 9, "action": "kill"}]  # which is not reached
    args = (*ARGS, *SLOW, "sampler.steps=16")
    assert runs.start(tmp_path / "run", *args, faults=faults) == 143, runs.log(tmp_path / "run")
    assert LOST in runs.log(tmp_path / "run")


@pytest.mark.slow
def test_groups_that_wait_and_problems_that_are_solved_are_as_before_the_step(
    runs: Runs, tmp_path: Path
) -> None:
    more = ("stage.sampling_rounds=3", "stage.surplus=keep", "data.skip_accuracy=0.9")
    args = (*ARGS, *SLOW, *more)
    assert runs.start(tmp_path / "whole", *args) == 0, runs.log(tmp_path / "whole")
    for call in (5, 9):  # within the first update of a step: all its groups are drawn
        folder = tmp_path / f"{call}"
        fault = {"target": MICRO_BATCH, "call": call, "action": "terminate"}
        assert runs.start(folder, *args, faults=[fault], grace=0) == 143, runs.log(folder)
        assert re.search(SAVED, runs.log(folder))
        assert runs.start(folder, *args) == 0, runs.log(folder)
        assert results(folder) == results(tmp_path / "whole")


@pytest.mark.slow
def test_a_step_of_fine_tuning_is_left(runs: Runs, tmp_path: Path) -> None:
    args = (*SFT, "stage.batch_size=4", "stage.train_batch_size=2", "stage.checkpoint_every=100")
    assert runs.start(tmp_path / "whole", *args) == 0, runs.log(tmp_path / "whole")
    folder = tmp_path / "run"
    fault = {"target": "igpo_lightning.sft.module:nelbo", "call": 7, "action": "terminate"}
    assert runs.start(folder, *args, faults=[fault], grace=0) == 143, runs.log(folder)
    assert "step-3.ckpt. Resume with" in runs.log(folder)
    assert runs.start(folder, *args) == 0, runs.log(folder)
    assert results(folder) == results(tmp_path / "whole")
