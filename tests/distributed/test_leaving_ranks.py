"""A signal to one of two ranks within a step: both leave, save together, and go on."""

from pathlib import Path

import pytest

from tests.integration.small_runs import RL, Runs, results

QUIET = ("stage.eval_every=0", "stage.eval_before=false", "stage.checkpoint_every=100")
ARGS = (*RL, *QUIET, "stage.prompts_per_step=4", "stage.steps=3", "trainer.devices=2")
PASS = "igpo_lightning.diffusion.slots:run_step"
MICRO_BATCH = "igpo_lightning.rl.module:policy_loss"
DDP, FSDP = ("trainer.strategy=ddp",), ("trainer.strategy=fsdp",)
GATHERED = (*FSDP, "trainer.gather_rollouts=true")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("strategy", [DDP, FSDP, GATHERED])
def test_both_ranks_leave_where_one_is_told(
    runs: Runs, tmp_path: Path, strategy: tuple[str, ...]
) -> None:
    whole, args = tmp_path / "whole", (*ARGS, *strategy)
    assert runs.start(whole, *args, ranks=2) == 0, runs.log(whole)
    passes = sum(int(float(row.get("passes/rollout", 0))) for row in results(whole)["metrics"])
    for rank, target, call in ((1, PASS, passes // 2 - 3), (0, MICRO_BATCH, 3), (1, PASS, 2)):
        folder = tmp_path / f"{rank}-{call}"
        fault = {"target": target, "call": call, "action": "terminate", "rank": rank}
        assert runs.start(folder, *args, ranks=2, faults=[fault], grace=0) == 143
        assert "Resume with: python -m igpo_lightning" in runs.log(folder)
        assert "Traceback" not in runs.log(folder)
        assert runs.start(folder, *args, ranks=2) == 0, runs.log(folder)
        assert results(folder) == results(whole)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_rank_hears_of_a_signal_that_another_got(runs: Runs, tmp_path: Path) -> None:
    """Rank 0 makes passes of two seconds; only rank 1, which waits for it, is told."""
    slow = {"target": PASS, "call": 0, "action": "pause", "rank": 0}
    told = {"target": "igpo_lightning.evaluation.grade:Grading.start", "call": 1, "rank": 1}
    faults = [slow, told | {"action": "terminate"}]
    folder = tmp_path / "run"
    args = (*ARGS, *DDP, "sampler.steps=16", "sampler.block_length=16")
    status = runs.start(folder, *args, ranks=2, faults=faults, seconds=30, grace=0)
    assert status == 143, runs.log(folder)
