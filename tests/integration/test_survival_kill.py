"""A run that is killed at any moment and started again computes what it would have anyway."""

import random
from dataclasses import replace
from pathlib import Path

import pytest

from tests.integration.small_runs import RL, SFT, Runs, results, save_tiny

# Function and how often a run of RL or SFT calls it, about: in rollout, injection, update,
# evaluation, metrics, and at every stage of writing a checkpoint.
RL_PLACES = {
    "igpo_lightning.evaluation.answer:denoise": 12,
    "igpo_lightning.rl.inpainter:Inpainter.inpaint": 5,
    "igpo_lightning.rl.module:RLModule.update": 10,
    "igpo_lightning.rl.module:clipped_step": 10,
    "igpo_lightning.rl.module:RLModule.report": 5,
    "igpo_lightning.rl.module:RLModule.validation_step": 4,
    "lightning.pytorch.loggers.csv_logs:CSVLogger.save": 5,
    "igpo_lightning.runs.durable:_flush": 12,
    "igpo_lightning.runs.durable:link": 6,
    "igpo_lightning.runs.durable:remove": 8,
    "torch:save": 5,
}
SFT_PLACES = {
    "igpo_lightning.sft.module:SFTModule.training_step": 6,
    "igpo_lightning.sft.module:SFTModule.validation_step": 3,
    "igpo_lightning.runs.durable:_flush": 8,
}


def kill_often(
    runs: Runs, folder: Path, args: tuple[str, ...], places: dict[str, int], kills: int
) -> None:
    """Kill runs so many times in all; each goes on by the same command until it ends by itself."""
    assert runs.start(folder / "whole", *args) == 0, runs.log(folder / "whole")
    expected = results(folder / "whole")
    draw, killed, number = random.Random(0), 0, 0
    while True:
        target = draw.choice(sorted(places))
        fault = {"target": target, "call": draw.randint(1, places[target]), "action": "kill"}
        faults = [fault] if killed < kills else []
        status = runs.start(folder / str(number), *args, faults=faults)
        assert status in (0, -9), runs.log(folder / str(number))[-2000:]
        killed += status == -9
        if status == 0:
            assert results(folder / str(number)) == expected
            number += 1
            if killed == kills:
                return


# Two batches an evaluation, and an evaluation before the first step, and after the second and last.
FOUR_STEPS = (*RL, "stage.steps=4", "eval.batch_size=2")


@pytest.fixture(scope="module")
def whole(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of four steps that was never killed."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert runs.start(folder, *FOUR_STEPS) == 0, runs.log(folder)
    return folder


def test_a_kill_in_an_update_changes_nothing(runs: Runs, whole: Path, tmp_path: Path) -> None:
    """Killed in the second step of 4, so that more steps are left than were done."""
    fault = {"target": "igpo_lightning.rl.module:clipped_step", "call": 4, "action": "kill"}
    assert runs.start(tmp_path / "killed", *FOUR_STEPS, faults=[fault]) == -9
    assert not (tmp_path / "killed" / "summary.json").exists()
    assert runs.start(tmp_path / "killed", *FOUR_STEPS) == 0, runs.log(tmp_path / "killed")
    expected = results(whole)
    assert results(tmp_path / "killed") == expected
    norms = [float(r["policy/grad_norm"]) for r in expected["metrics"] if "policy/grad_norm" in r]
    assert len(norms) == 4
    assert any(norm > 0 for norm in norms)


def test_a_sampler_that_was_changed_stays_so_after_a_kill(runs: Runs, tmp_path: Path) -> None:
    """The cache drifts in the first step, and is renewed more often from the second on.

    Of two layers: within one, what a cache keeps is not stale.
    """
    model = save_tiny(tmp_path / "model", num_hidden_layers=2, initializer_range=0.3)
    runs = replace(runs, model=model)
    cache = "sampler.cache=dual sampler.drift_action=refresh"
    limit = "sampler.drift_share=0.99 sampler.drift_limit=1e-6"
    args = (*RL, "stage.steps=4", *cache.split(), *limit.split())
    assert runs.start(tmp_path / "whole", *args) == 0, runs.log(tmp_path / "whole")
    told = "step 0: the rollouts' log-probabilities are"
    assert told in runs.log(tmp_path / "whole")
    fault = {"target": "igpo_lightning.rl.module:clipped_step", "call": 4, "action": "kill"}
    assert runs.start(tmp_path / "killed", *args, faults=[fault]) == -9
    assert runs.start(tmp_path / "killed", *args) == 0, runs.log(tmp_path / "killed")
    assert results(tmp_path / "killed") == results(tmp_path / "whole")


@pytest.mark.parametrize(
    ("target", "call"),
    [
        # Calls 3 and 4 are those of the evaluation after the second step.
        ("igpo_lightning.rl.module:RLModule.validation_step", 4),
        # Evaluated and logged, but not saved yet.
        ("igpo_lightning.runs.checkpoints:RunCheckpoints.on_validation_end", 2),
    ],
)
def test_an_evaluation_that_a_kill_cut_off_is_made_again(
    runs: Runs, whole: Path, tmp_path: Path, target: str, call: int
) -> None:
    """Of the policy after 0, 2 and 4 steps, each once, as in the run that was never killed."""
    fault = {"target": target, "call": call, "action": "kill"}
    assert runs.start(tmp_path / "killed", *FOUR_STEPS, faults=[fault]) == -9
    assert runs.start(tmp_path / "killed", *FOUR_STEPS) == 0, runs.log(tmp_path / "killed")
    expected = results(whole)
    assert results(tmp_path / "killed") == expected
    lines = [row for row in expected["metrics"] if "eval/accuracy" in row]
    assert [row["step"] for row in lines] == ["0", "2", "4"]
    summary = expected["summary"]
    ends = (summary["before"], summary["after"])
    for line, end in zip((lines[0], lines[-1]), ends, strict=True):
        assert float(line["eval/accuracy"]) == end["mean"]
        assert float(line["eval/accuracy_low"]) == end["low"]
        assert float(line["eval/accuracy_high"]) == end["high"]
        assert int(line["eval/problems"]) == end["problems"] == 4


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_twenty_kills_at_random_places_change_nothing(runs: Runs, tmp_path: Path) -> None:
    # Adapters with dropout: the only thing that draws from torch's global generator.
    args = (*RL, "model.lora.enabled=true", "model.lora.rank=2", "model.lora.dropout=0.2")
    kill_often(runs, tmp_path, args, RL_PLACES, kills=20)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_kills_change_nothing_in_fine_tuning(runs: Runs, tmp_path: Path) -> None:
    args = (*SFT, "stage.val_every=2", "stage.val_limit=4")
    kill_often(runs, tmp_path, args, SFT_PLACES, kills=6)
