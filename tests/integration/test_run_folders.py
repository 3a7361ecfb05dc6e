"""A run folder belongs to one run: another process, another stage, a second start."""

import json
import os
from pathlib import Path

import pytest

from igpo_lightning.runs.lock import run_lock
from tests.integration.small_runs import RL, SFT, Runs, results

SHORT = (*RL, "stage.steps=2", "stage.eval_every=0", "stage.eval_before=false")


@pytest.fixture(scope="module")
def finished(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert runs.start(folder, *SHORT) == 0, runs.log(folder)
    return folder


def test_a_finished_run_says_so_and_does_nothing_again(runs: Runs, finished: Path) -> None:
    times = {f: f.stat().st_mtime_ns for f in finished.glob("export/*")}
    times |= {f: f.stat().st_mtime_ns for f in finished.glob("*.json*")}
    before = results(finished)
    assert runs.start(finished, *SHORT, "trainer.keep_last=1") == 0, runs.log(finished)
    assert f"already finished: {finished}" in runs.log(finished)
    assert results(finished) == before
    assert {file: file.stat().st_mtime_ns for file in times} == times


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (SFT, "{folder}: holds a run of stage=rl, and this is stage=sft"),
        ((*SHORT, "inpaint.ratio=2"), "inpaint.ratio=2.0: give a number from 0 to 1"),
        ((*SHORT, "data.levels=[1]"), "data.levels: [3, 4] -> [1]"),
    ],
    ids=["another stage", "an invalid value", "another value"],
)
def test_a_refused_start_changes_no_file(
    runs: Runs, finished: Path, arguments: tuple[str, ...], says: str
) -> None:
    before = contents(finished)
    assert runs.start(finished, *arguments) == 2
    text = runs.log(finished)
    assert says.format(folder=finished) in text
    assert "Error executing job" not in text
    assert contents(finished) == before


def test_an_invalid_value_leaves_no_folder(runs: Runs, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert runs.start(tmp_path / "log", *SHORT, "inpaint.ratio=2", at=folder) == 2
    assert not folder.exists()


def test_a_second_process_is_refused_in_one_line(runs: Runs, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with run_lock(folder, {}):
        assert runs.start(folder, *SHORT) == 1
        assert os.listdir(folder) == ["run.lock"]
    text = runs.log(folder)
    assert f"error: {folder} is in use by process {os.getpid()}" in text
    assert "Traceback" not in text
    assert "Error executing job" not in text


def test_line_separators_in_texts_do_not_stop_a_resumed_run(runs: Runs, tmp_path: Path) -> None:
    """U+2028, U+2029 and U+0085 are ends of lines to Python, and part of a text to JSON."""
    data, folder = tmp_path / "problems.jsonl", tmp_path / "run"
    problems = [
        {
            "id": f"{i}",
            "question": f"{i}\u2028+\u20291\u0085",
            "solution": f"{i + 1}",
            "answer": "1",
        }
        for i in range(8)
    ]
    text = "".join(json.dumps(problem, ensure_ascii=False) + "\n" for problem in problems)
    data.write_text(text, encoding="utf-8")
    # Held-out problems, too: what was recorded before training is read back by a resumed run.
    args = (*SHORT, "data=jsonl", f"data.path={data}", "stage.eval_before=true", "eval.limit=2")
    assert runs.start(tmp_path / "whole", *args) == 0, runs.log(tmp_path / "whole")
    fault = {"target": "igpo_lightning.rl.module:clipped_step", "call": 3, "action": "kill"}
    assert runs.start(folder, *args, faults=[fault]) == -9
    with (folder / "samples.jsonl").open("ab") as file:
        file.write('{"step": 1, "question": "2\u2028'.encode()[:-1])  # torn within a character
    assert runs.start(folder, *args) == 0, runs.log(folder)
    assert results(folder) == results(tmp_path / "whole")


@pytest.mark.parametrize(
    "target",
    [
        "igpo_lightning.stages.rl:read_problems",
        "igpo_lightning.evaluation.answer:denoise",
        "igpo_lightning.stages.export:save_export",
    ],
)
def test_a_signal_in_any_phase_ends_the_run_with_the_command_that_resumes(
    runs: Runs, tmp_path: Path, target: str
) -> None:
    """At the start, in the evaluation before training, and while the model is exported."""
    folder = tmp_path / "run"
    fault = {"target": target, "call": 1, "action": "terminate"}
    assert runs.start(folder, *SHORT, "stage.eval_before=true", faults=[fault]) == 143
    text = runs.log(folder)
    assert (
        "error: SIGTERM: stopped, and nothing that was saved is lost. Resume with: python -m "
        in text
    )
    assert "Traceback" not in text
    assert not (folder / "run.lock").exists()
    assert not (folder / "export").exists()


def test_a_run_folder_that_vanishes_is_one_line(runs: Runs, tmp_path: Path) -> None:
    """Removed at the first metrics, before the samples are written."""
    folder = tmp_path / "run"
    fault = {"target": "igpo_lightning.rl.module:RLModule.report", "call": 1, "action": "remove"}
    status = runs.start(folder, *SHORT, faults=[fault], env={"RUN_FOLDER": str(folder)})
    assert status == 1, runs.log(folder)
    text = runs.log(folder)
    assert f"error: cannot write {folder}" in text
    assert "removed during the run" in text
    assert "Traceback" not in text


def test_a_log_that_cannot_be_opened_is_one_line(runs: Runs, tmp_path: Path) -> None:
    """A folder stands where Hydra's log belongs, as a read-only run folder would refuse it."""
    folder = tmp_path / "run"
    (folder / "cli.log").mkdir(parents=True)
    assert runs.start(folder, *SHORT) == 1
    assert f"error: cannot write {folder}/cli.log" in runs.log(folder)
    assert "Traceback" not in runs.log(folder)
