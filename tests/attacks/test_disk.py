"""A disk that is full, and a run folder that is removed while the run goes on."""

import json
from pathlib import Path

import pytest

from tests.integration.small_runs import RL, SFT, SMALL, Runs

SHORT = (*RL, "stage.steps=2", "stage.eval_every=0", "stage.eval_before=false")
REWRITE = (*SMALL[:-2], "stage=rewrite", "rewriter=extractive", "data=jsonl")


def test_a_disk_that_is_full_in_the_thread_of_tensorboard(runs: Runs, tmp_path: Path) -> None:
    """It writes in a thread of its own, whose end would be told with a traceback."""
    fault = {
        "target": "tensorboard.summary.writer.record_writer:RecordWriter.write",
        "call": 3,
        "action": "disk_full",
    }
    folder = tmp_path / "run"
    assert runs.start(folder, *SHORT, "logger=[csv,tensorboard]", faults=[fault]) == 1
    text = runs.log(folder)
    assert "error: cannot write to the disk: No space left on device" in text
    assert "run the same command again to resume from the last checkpoint" in text
    assert "Traceback" not in text


@pytest.mark.parametrize(
    ("args", "target", "call"),
    [
        (SHORT, "igpo_lightning.runs.checkpoints:RunCheckpoints.save", 1),
        (SHORT, "igpo_lightning.stages.rl:write_summary", 1),
        (SFT, "igpo_lightning.sft.module:SFTModule.log_line", 1),
        ((*SMALL, "stage=eval"), "igpo_lightning.evaluation.evaluation:Evaluation.finish", 1),
        (REWRITE, "igpo_lightning.stages.rewrite:_write", 1),
    ],
    ids=["checkpoint", "summary", "fine-tuning", "evaluation", "rewriting"],
)
def test_a_run_folder_that_vanishes_in_any_stage(
    runs: Runs, tmp_path: Path, args: tuple[str, ...], target: str, call: int
) -> None:
    folder, data = tmp_path / "run", tmp_path / "p.jsonl"
    rows = [{"id": f"{i}", "question": "q", "solution": "1+1=2", "answer": "2"} for i in range(3)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = [*args, f"data.path={data}"] if "stage=rewrite" in args else list(args)
    fault = {"target": target, "call": call, "action": "remove"}
    status = runs.start(folder, *given, faults=[fault], env={"RUN_FOLDER": str(folder)})
    text = runs.log(folder)
    assert status == 1, text
    assert f"error: cannot write {folder}" in text
    assert "Traceback" not in text
