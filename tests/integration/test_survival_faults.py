"""Torn and corrupt checkpoints, a full disk, signals, NaN, memory, and settings that changed."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from igpo_lightning.runs import durable
from tests.integration.small_runs import RL, SFT, Runs, results

SHORT = (*RL, "stage.steps=4", "stage.eval_every=0", "stage.eval_before=false")
KILLED = [{"target": "igpo_lightning.rl.module:clipped_step", "call": 7, "action": "kill"}]


@pytest.fixture(scope="module")
def whole(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing happened to."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    assert runs.start(folder, *SHORT) == 0, runs.log(folder)
    return folder


@pytest.fixture(scope="module")
def killed_once(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was killed in its last step, with checkpoints after rollout steps 2 and 3."""
    folder = tmp_path_factory.mktemp("runs") / "killed"
    assert runs.start(folder, *SHORT, faults=KILLED) == -9
    names = sorted(p.name for p in (folder / "checkpoints").iterdir())
    assert names == ["last.ckpt", "step-2.ckpt", "step-3.ckpt"]
    return folder


@pytest.fixture
def killed(killed_once: Path, tmp_path: Path) -> Path:
    """A copy of that run, for a test to spoil and to resume."""
    return shutil.copytree(killed_once, tmp_path / "killed", symlinks=True)


def flip_a_byte(file: Path) -> None:
    """In the middle of the file's largest part."""
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def cut_off(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-2000])


@pytest.mark.parametrize("spoil", [flip_a_byte, cut_off])
def test_a_damaged_checkpoint_is_reported_and_the_one_before_used(
    runs: Runs, whole: Path, killed: Path, spoil
) -> None:
    spoil(killed / "checkpoints" / "step-3.ckpt")
    assert runs.start(killed, *SHORT) == 0, runs.log(killed)
    assert re.search(r"step-3.ckpt is damaged .*going back to an earlier one", runs.log(killed))
    assert results(killed) == results(whole)


def test_without_any_sound_checkpoint_nothing_is_begun_again_silently(
    runs: Runs, killed: Path
) -> None:
    for file in (killed / "checkpoints").glob("step-*"):
        cut_off(file)
    assert runs.start(killed, *SHORT) == 2
    assert "no checkpoint in" in runs.log(killed)
    assert "is sound" in runs.log(killed)


def test_changed_settings_are_an_error_that_shows_them(runs: Runs, killed: Path) -> None:
    assert runs.start(killed, *SHORT, "objective.beta=0.5", "filter.keep_fraction=0.5") == 2
    text = runs.log(killed)
    assert "objective.beta: 0.01 -> 0.5" in text
    assert "filter.keep_fraction: 0.2 -> 0.5" in text
    assert runs.start(killed, *SHORT, "resume=null") == 2
    assert "resume=null" in runs.log(killed)


@pytest.mark.slow
def test_what_decides_no_number_may_change(runs: Runs, killed: Path) -> None:
    """The micro-batch size, how much is kept, and the number of steps of a run without decay."""
    changes = ("stage.train_batch_size=2", "trainer.keep_last=1", "stage.steps=6")
    assert runs.start(killed, *SHORT, *changes) == 0, runs.log(killed)
    names = sorted(p.name for p in (killed / "checkpoints").iterdir())
    assert names == ["last.ckpt", "step-6.ckpt"]
    lines = [row for row in results(killed)["metrics"] if "policy/loss" in row]
    assert [row["step"] for row in lines] == list("012345")


def test_a_file_that_cannot_grow_ends_the_run_and_leaves_the_last_good_checkpoint(
    runs: Runs, killed: Path, whole: Path
) -> None:
    """The limit stands for the full disk: the kernel refuses to write on within the checkpoint."""
    before = sorted(p.name for p in (killed / "checkpoints").iterdir())
    assert runs.start(killed, *SHORT, limit_file_size=60_000) == 1
    text = runs.log(killed)
    assert "error: cannot write" in text
    assert "make room" in text
    assert "Traceback" not in text
    assert sorted(p.name for p in (killed / "checkpoints").iterdir()) == before
    assert runs.start(killed, *SHORT) == 0, runs.log(killed)
    assert results(killed) == results(whole)


@pytest.mark.parametrize("name", ["terminate", "usr1"])
def test_a_signal_saves_after_the_step_and_the_same_command_goes_on(
    runs: Runs, whole: Path, tmp_path: Path, name: str
) -> None:
    """Sent in the second step's first update; checkpoints are otherwise made at the end only."""
    folder, args = tmp_path / name, (*SHORT, "stage.checkpoint_every=100")
    fault = {"target": "igpo_lightning.rl.module:clipped_step", "call": 3, "action": name}
    status = runs.start(folder, *args, faults=[fault], grace=60)  # also beside other jobs
    assert status == {"terminate": 143, "usr1": 138}[name]
    assert "step-2.ckpt. Resume with: python -m igpo_lightning " in runs.log(folder)
    assert f"hydra.run.dir={folder}" in runs.log(folder).partition("Resume with:")[2]
    assert not (folder / "summary.json").exists()
    assert runs.start(folder, *args) == 0, runs.log(folder)
    assert results(folder) == results(whole)


def test_a_run_folder_that_cannot_be_written_is_a_clear_error(runs: Runs, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert runs.start(tmp_path / "log", *SHORT, at=tmp_path / "file" / "run") == 1
    text = runs.log(tmp_path / "log")
    assert "error: cannot write" in text
    assert str(tmp_path / "file") in text
    assert "Traceback" not in text


@pytest.mark.slow
def test_fine_tuning_goes_on_in_shorter_runs(runs: Runs, tmp_path: Path) -> None:
    args = (*SFT, "stage.val_every=3", "stage.val_limit=4")
    assert runs.start(tmp_path / "whole", *args) == 0, runs.log(tmp_path / "whole")
    fault = {"target": "igpo_lightning.sft.module:clipped_step", "call": 6, "action": "kill"}
    assert runs.start(tmp_path / "parts", *args, faults=[fault]) == -9
    link = (tmp_path / "parts" / "checkpoints" / "best.ckpt").readlink()
    assert str(link) == "step-3.ckpt"
    assert runs.start(tmp_path / "parts", *args) == 0, runs.log(tmp_path / "parts")
    assert results(tmp_path / "parts") == results(tmp_path / "whole")
    assert json.loads((tmp_path / "parts" / "summary.json").read_text())["sft/val_loss"] > 0


def test_a_rollout_without_memory_goes_on_in_halves(
    runs: Runs, whole: Path, tmp_path: Path
) -> None:
    """The second pass of the sampler fails as CUDA's allocator would; the result is the same."""
    target = "igpo_lightning.diffusion.slots:run_step"
    fault = {"target": target, "call": 2, "action": "out_of_memory"}
    assert runs.start(tmp_path / "run", *SHORT, faults=[fault]) == 0, runs.log(tmp_path / "run")
    assert "out of memory with" in runs.log(tmp_path / "run")
    expected, got = results(whole), results(tmp_path / "run")
    for rows in (expected["metrics"], got["metrics"]):
        for row in rows:
            for name in ("passes/rollout", "rollout/slot_use"):  # two halves make more passes
                row.pop(name, None)
    assert got == expected


def test_updates_with_nan_are_skipped_counted_and_end_the_run(runs: Runs, tmp_path: Path) -> None:
    """Every update fails from the first on; the fourth one in a row ends the run."""
    folder = tmp_path / "run"
    fault = {"target": "igpo_lightning.rl.module:policy_loss", "call": 0, "action": "nan"}
    args = (*SHORT, "trainer.max_skipped=4")
    assert runs.start(folder, *args, faults=[fault]) == 1
    text = runs.log(folder)
    assert "NaN or infinite in 4 updates in a row" in text
    assert "Traceback" not in text
    assert " from " in (folder / "nonfinite_prompts.txt").read_text()


def test_one_update_with_nan_is_left_out_and_counted(runs: Runs, tmp_path: Path) -> None:
    folder, args = tmp_path / "run", (*SHORT, "stage.steps=2")
    fault = {"target": "igpo_lightning.rl.module:policy_loss", "call": 3, "action": "nan"}
    assert runs.start(folder, *args, faults=[fault]) == 0, runs.log(folder)
    lines = [row for row in results(folder)["metrics"] if "policy/skipped" in row]
    assert [row["policy/skipped"] for row in lines] == ["0", "1"]
    weights = load_file(folder / "export" / "model.safetensors")
    assert all(bool(tensor.isfinite().all()) for tensor in weights.values())


def test_a_data_file_that_has_vanished_is_named_and_nothing_is_lost(
    runs: Runs, tmp_path: Path
) -> None:
    """Killed, moved away, refused; moved back, the run computes what the unbroken one does."""
    data, folder = tmp_path / "problems.jsonl", tmp_path / "run"
    problems = [
        {"id": f"{i}", "question": f"{i}+1", "solution": f"{i}+1={i + 1}", "answer": f"{i + 1}"}
        for i in range(12)
    ]
    data.write_text("".join(json.dumps(problem) + "\n" for problem in problems))
    args = (*SHORT, "data=jsonl", f"data.path={data}", "stage.eval_after=false")
    assert runs.start(tmp_path / "whole", *args) == 0, runs.log(tmp_path / "whole")
    assert runs.start(folder, *args, faults=KILLED) == -9
    before = sorted(p.name for p in (folder / "checkpoints").iterdir())
    data.rename(tmp_path / "elsewhere")
    assert runs.start(folder, *args) == 2
    text = runs.log(folder)
    assert "error: " in text
    assert f"data.path={data}" in text
    assert "Traceback" not in text
    assert sorted(p.name for p in (folder / "checkpoints").iterdir()) == before
    (tmp_path / "elsewhere").rename(data)
    assert runs.start(folder, *args) == 0, runs.log(folder)
    assert results(folder) == results(tmp_path / "whole")


def test_a_checkpoint_that_would_run_code_is_refused(
    runs: Runs, whole: Path, tmp_path: Path
) -> None:
    """A sound file (its checksums fit) whose pickle calls `open`, given to a resumed run."""

    class Opens:
        def __reduce__(self):
            return open, (str(tmp_path / "it_ran"), "w")

    trap = tmp_path / "trap.ckpt"
    with trap.open("wb") as stream:
        sealed = durable.SealedStream(stream)
        torch.save({"global_step": 4, "state_dict": {}, "extra": Opens()}, sealed)
        sealed.seal()
    torch.load(trap, weights_only=False)  # the trap works
    (tmp_path / "it_ran").unlink()
    assert runs.start(tmp_path / "run", *SHORT, f"resume={trap}") == 2
    assert "could run code" in runs.log(tmp_path / "run")
    assert not (tmp_path / "it_ran").exists()


def test_what_the_environment_keeps_secret_stands_in_no_file_and_no_log(
    runs: Runs, tmp_path: Path
) -> None:
    names = ("HF_TOKEN", "WANDB_API_KEY", "OPENAI_API_KEY", "MY_DATABASE_PASSWORD")
    secrets = {name: f"secret-{name.lower()}-9f3a" for name in names}
    folder, args = tmp_path / "run", (*SHORT, "stage.steps=1", "logger=[csv,tensorboard]")
    # A failure too: its log is where an environment would be printed.
    fault = {"target": "igpo_lightning.rl.module:RLModule.report", "call": 1, "action": "disk_full"}
    assert runs.start(folder, *args, env=secrets, faults=[fault]) == 1
    assert runs.start(folder, *args, env=secrets) == 0, runs.log(folder)
    files = [file for file in tmp_path.rglob("*") if file.is_file() and not file.is_symlink()]
    assert len(files) > 10
    for file in files:
        content = file.read_bytes()
        assert not any(secret.encode() in content for secret in secrets.values()), file
    given = "data.test_from=secret-hf_token-9f3a"
    assert runs.start(tmp_path / "given", *args, given, env=secrets) == 2
    text = runs.log(tmp_path / "given")
    assert "data.test_from holds the value of the environment variable HF_TOKEN" in text
    assert secrets["HF_TOKEN"] not in text
    assert not list((tmp_path / "given").iterdir())  # before Hydra has written the command down
