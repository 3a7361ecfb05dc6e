"""Every stage, ended in every phase by SIGKILL or SIGTERM: the same command, the same files."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.attacks.run_files import contents
from tests.integration.small_runs import RL, SFT, SMALL, Runs

START, EXPORT = "start-up", "export"
BOTH = ("kill", "terminate")
# A run takes a few seconds, and many more beside other jobs.
WHOLE: dict[str, Any] = {"seconds": 1200, "pictures": True}
STATUS = {"kill": -9, "terminate": 143}
LOGGED = "logger=[csv,tensorboard]"
TRACE = {"question": "1+1", "solution": "1+1=2. So the answer is 2.", "answer": "2"}


@dataclass(frozen=True)
class Stage:
    """A stage, and in each of its phases a function with the number of its call."""

    args: tuple[str, ...]
    phases: dict[str, tuple[str, int]]


STAGES = {
    "rl": Stage(
        (*RL, "stage.steps=4", "eval.batch_size=2", LOGGED),
        {
            START: ("igpo_lightning.stages.rl:read_problems", 1),
            "evaluation before": ("igpo_lightning.evaluation.evaluation:Evaluation.add", 2),
            "rollout": ("igpo_lightning.evaluation.answer:denoise", 9),
            "update": ("igpo_lightning.rl.module:clipped_step", 6),
            "evaluation": ("igpo_lightning.evaluation.evaluation:Evaluation.add", 7),
            "checkpoint": ("igpo_lightning.runs.checkpoints:RunCheckpoints.save", 3),
            EXPORT: ("igpo_lightning.stages.export:save_export", 1),
            "summary": ("igpo_lightning.stages.rl:write_summary", 1),
        },
    ),
    "sft": Stage(
        (*SFT, "stage.val_every=2", "stage.val_limit=4", "stage.batch_size=2", LOGGED),
        {
            START: ("igpo_lightning.stages.sft:read_problems", 1),
            "update": ("igpo_lightning.sft.module:clipped_step", 3),
            "validation": ("igpo_lightning.sft.module:SFTModule.validation_step", 3),
            "checkpoint": ("igpo_lightning.runs.checkpoints:RunCheckpoints.save", 2),
            "evaluation": ("igpo_lightning.evaluation.evaluation:Evaluation.add", 1),
            EXPORT: ("igpo_lightning.stages.export:save_export", 1),
        },
    ),
    "eval": Stage(
        (*SMALL, "stage=eval", "eval.batch_size=2", LOGGED),
        {
            START: ("igpo_lightning.stages.eval:read_problems", 1),
            "evaluation": ("igpo_lightning.evaluation.evaluation:Evaluation.add", 2),
            "summary": ("igpo_lightning.stages.eval:write_summary", 1),
        },
    ),
    "rewrite": Stage(
        (*SMALL[:-2], "stage=rewrite", "rewriter=extractive", "data=jsonl", "data.path={data}"),
        {
            START: ("igpo_lightning.stages.rewrite:read_problems", 1),
            "a row": ("igpo_lightning.rewriting.run:RewriteLog.add", 3),
            "writing": ("igpo_lightning.stages.rewrite:_write", 1),
        },
    ),
    "export": Stage(
        ("stage=export", "checkpoint={checkpoint}", "trainer.threads=1"),
        {
            START: ("igpo_lightning.stages.export:read_weights", 1),
            EXPORT: ("igpo_lightning.stages.export:save_export", 1),
        },
    ),
    "sft_then_rl": Stage(
        (
            *(key for key in SMALL if not key.startswith(("inpaint", "model.init"))),
            "stage=sft_then_rl",
            "stage.sft=['stage=sft','stage.batch_size=2','stage.steps=2','model.init=random']",
            "stage.rl=['stage=rl','stage.steps=1','stage.prompts_per_step=2','stage.group_size=2']",
        ),
        {
            START: ("igpo_lightning.stages.sft_then_rl:validate", 1),
            "the first part": ("igpo_lightning.stages.sft_then_rl:run_part", 1),
            "the second part": ("igpo_lightning.stages.sft_then_rl:run_part", 2),
        },
    ),
}
CASES = [
    (stage, phase, action) for stage in STAGES for phase in STAGES[stage].phases for action in BOTH
]


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the whole runs, with the data that they read."""
    root = tmp_path_factory.mktemp("whole")
    rows = [TRACE | {"id": f"{i}", "question": f"{i}+1"} for i in range(6)]
    (root / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root


def whole_run(runs: Runs, root: Path, stage: str) -> Path:
    """The folder of a stage to which nothing happened; an export reads that of RL."""
    for name in ("rl", stage) if stage == "export" else (stage,):
        if not (root / name).exists():
            status = runs.start(root / name, *arguments(name, root), **WHOLE)
            assert status == 0, runs.log(root / name)
    return root / stage


def arguments(stage: str, root: Path) -> list[str]:
    places = {"{data}": root / "data.jsonl", "{checkpoint}": root / "rl/checkpoints/last.ckpt"}
    given = []
    for argument in STAGES[stage].args:
        for name, place in places.items():
            argument = argument.replace(name, str(place))
        given.append(argument)
    return given


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize(("stage", "phase", "action"), CASES)
def test_every_file_is_as_without_the_kill(
    runs: Runs, tmp_path: Path, ground: Path, stage: str, phase: str, action: str
) -> None:
    uninterrupted = whole_run(runs, ground, stage)
    target, call = STAGES[stage].phases[phase]
    # The same name, which stands in the settings: the same files.
    folder, args = tmp_path / stage, arguments(stage, ground)
    fault = {"target": target, "call": call, "action": action}
    status = runs.start(folder, *args, faults=[fault], **WHOLE)
    assert status == STATUS[action], runs.log(folder)[-3000:]
    text = runs.log(folder)
    assert ("Resume with: python -m igpo_lightning" in text) == (action == "terminate")
    assert "Traceback" not in text
    assert runs.start(folder, *args, **WHOLE) == 0, runs.log(folder)[-3000:]
    whole, found = contents(uninterrupted), contents(folder)
    assert found.keys() == whole.keys()
    for file, content in whole.items():
        if file != "config.yaml" and not file.endswith("/config.yaml"):
            assert found[file] == content, file
