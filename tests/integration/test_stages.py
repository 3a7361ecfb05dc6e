"""Every stage through the real command line, from a folder that is not the checkout."""

import csv
import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from igpo_lightning.models import load_backbone, load_tokenizer
from tests.integration.forked import CommandServer

# A run of seconds: two rollout steps, four prompts, four samples each.
SHORT_RL = (
    "stage.steps=2",
    "stage.prompts_per_step=4",
    "stage.group_size=4",
    "stage.inner_updates=2",
    "stage.checkpoint_every=1",
    "stage.log_samples_every=1",
    "data.train_size=8",
    "eval.limit=8",
    "reward.workers=1",  # a grader takes seconds to start
    "hydra.run.dir=run",
)


def metrics(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def records(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text().splitlines()]


@dataclass(frozen=True)
class Pair:
    """The main job: GRPO and IGPO as a sweep of two, and what it printed."""

    folder: Path
    printed: str

    def run(self, inpaint: str) -> Path:
        (found,) = self.folder.glob(f"*inpaint={inpaint}*")
        return found


@pytest.fixture(scope="module")
def pair(command_server: CommandServer, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    here = tmp_path_factory.mktemp("pair")
    log, short = here / "log", [part for part in SHORT_RL if not part.startswith("hydra")]
    command = ("-m", "inpaint=none,partial", *short, "hydra.sweep.dir=pair")
    place = {"cwd": str(here), "env": {"COLUMNS": "140"}, "grades": True}
    assert command_server.run(command, log, **place) == 0, log.read_text()
    return Pair(here / "pair", log.read_text())


def test_rl_leaves_all_that_it_names(pair: Pair) -> None:
    run = pair.run("partial")
    for part in (
        "on 8 of 512 held-out problems",
        "all-wrong groups",
        "time: rollout",
        "run folder: ",
    ):
        assert part in pair.printed
    for kind in ("greedy", "sampled at temperature 1"):
        assert "[" in pair.printed.split(kind)[1].splitlines()[0]  # an interval
    for name in ("metrics.csv", "config.yaml", "samples.jsonl", "curves.png", "summary.json"):
        assert (run / name).stat().st_size > 0, name
    assert list(run.glob("events.*")), "TensorBoard names a run by the folder of its events"
    assert (run / "checkpoints" / "last.ckpt").exists()
    assert OmegaConf.load(run / "config.yaml").stage.group_size == 4

    rows = [row for row in metrics(run) if row.get("group/all_wrong_before")]
    assert [int(row["step"]) for row in rows] == [0, 1]
    for row in rows:
        before, after = float(row["group/all_wrong_before"]), float(row["group/all_wrong_after"])
        assert 0 <= after <= before <= 1
    samples = records(run / "samples.jsonl")
    assert len(samples) == 2 * 4 * 4  # steps, prompts, group
    assert {len({s["id"] for s in samples if s["step"] == step}) for step in (0, 1)} == {4}

    summary = json.loads((run / "summary.json").read_text())
    assert summary["before"]["problems"] == summary["after"]["problems"] == 8
    for when in ("before", "after"):
        assert len(records(run / f"eval_{when}.jsonl")) == 8
        sampled = records(run / f"eval_{when}_sampled.jsonl")
        right = sum(record["correct"] for record in sampled)
        assert summary[f"{when}_sampled"]["mean"] == right / len(sampled) == right / 8

    trained, start = load_backbone(str(run / "export")), load_backbone("tiny_terse")
    names = dict(start.named_parameters())
    moved = [n for n, p in trained.named_parameters() if not torch.equal(p, names[n])]
    assert moved, "training changed no parameter"
    text = "A+3 from 12"
    assert load_tokenizer(str(run / "export"))(text) == load_tokenizer("tiny")(text)


def test_grpo_has_no_hints(pair: Pair) -> None:
    run = pair.run("none")
    rows = [row for row in metrics(run) if row.get("group/all_wrong_before")]
    assert len(rows) == 2
    for row in rows:
        assert row["group/all_wrong_before"] == row["group/all_wrong_after"]
    assert all(not any(s.get("hint") or "") for s in records(run / "samples.jsonl"))


@pytest.mark.slow
def test_a_resumed_run_logs_what_an_unbroken_one_logs(igpo, tmp_path: Path) -> None:
    changes = ("stage.eval_before=false", "stage.eval_after=false", "stage.steps=3")
    igpo(*SHORT_RL, *changes, "hydra.run.dir=whole")
    igpo(*SHORT_RL, *changes, "hydra.run.dir=parts", "stage.steps=2")
    igpo(*SHORT_RL, *changes, "hydra.run.dir=parts", "resume=parts")
    whole, parts = metrics(tmp_path / "whole"), metrics(tmp_path / "parts")
    assert len(whole) == len(parts) == 3
    for one, other in zip(whole, parts, strict=True):
        for name in one:
            if not name.startswith("time/"):
                assert one[name] == other[name], name


def test_sft_trains(igpo, tmp_path: Path) -> None:
    done = igpo(
        "stage=sft",
        "stage.steps=12",
        "stage.batch_size=8",
        "stage.val_every=4",
        "stage.val_limit=8",
        "stage.checkpoint_every=4",
        "model.init=random",
        "data.eval_size=8",
        "eval.limit=4",
        "reward.workers=1",
        "hydra.run.dir=run",
    )
    assert "validation loss" in done.stdout
    losses = [float(r["sft/val_loss"]) for r in metrics(tmp_path / "run") if r.get("sft/val_loss")]
    assert len(losses) == 3
    assert losses[-1] < losses[0]
    (last,) = [row for row in metrics(tmp_path / "run") if row.get("eval/accuracy")]
    after = json.loads((tmp_path / "run" / "summary.json").read_text())["after"]
    assert (int(last["step"]), float(last["eval/accuracy"])) == (12, after["mean"])
    assert load_backbone(str(tmp_path / "run" / "export")).mask_token_id == 0


def test_eval_reports_an_interval_and_keeps_every_sample(igpo, tmp_path: Path) -> None:
    done = igpo(
        "stage=eval",
        "data.eval_size=10",
        "eval.samples=3",
        "eval.temperature=0.7",
        "reward.workers=1",
        "hydra.run.dir=run",
    )
    assert "avg@3 on 10 test problems" in done.stdout
    samples = records(tmp_path / "run" / "samples.jsonl")
    assert len(samples) == 30
    assert all(s["correct"] == (s["reason"] is None) for s in samples)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())["after"]
    assert summary["low"] <= summary["mean"] <= summary["high"]
    assert summary["mean"] == pytest.approx(sum(s["correct"] for s in samples) / 30)


@pytest.mark.slow
def test_generate_keeps_the_hint_and_shows_the_order(igpo) -> None:
    prompt = "stage.prompt='A+3 B-2 C+4 from 12'"
    done = igpo("stage=generate", prompt, "stage.hint='A+3=15; B-2=13'")
    assert "A+3=15; B-2=13" in done.stdout
    assert "unmasked at step:" in done.stdout
    assert igpo("stage=generate", prompt, "stage.hint='A+3=15; B-2=13'").stdout == done.stdout
    refused = igpo(
        "stage=generate", prompt, "stage.hint='A+3=15; B-2=13'", "stage.hint_position=40", code=2
    )
    assert "stage.hint_position=40" in refused.stderr
    assert "sampler.completion_length=48" in refused.stderr


@pytest.mark.slow
def test_an_evaluation_on_the_last_step_is_not_made_again(igpo, tmp_path: Path) -> None:
    igpo(*SHORT_RL, "stage.eval_every=1")
    rows = [row for row in metrics(tmp_path / "run") if row.get("eval/accuracy")]
    assert [int(row["step"]) for row in rows] == [0, 1, 2]
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert float(rows[-1]["eval/accuracy"]) == summary["after"]["mean"]
    assert float(rows[-1]["eval/sampled_accuracy"]) == summary["after_sampled"]["mean"]


def test_the_main_job_puts_grpo_and_igpo_side_by_side(pair: Pair) -> None:
    table = pair.printed.rpartition("8 held-out problems")[2]
    rows = {
        line.split("│")[1].strip(): line.split("│")[2:4]
        for line in table.splitlines()
        if "│" in line
    }
    for kind in ("held-out greedy after training", "held-out sampled after training"):
        assert all("[" in cell for cell in rows[kind])
    grpo, grpo_injected = (
        rows[f"all-wrong groups {k}"][0] for k in ("as sampled", "after injection")
    )
    assert grpo == grpo_injected
    assert "Why: a group whose samples are all wrong has zero advantages" in pair.printed
    assert (pair.folder / "side_by_side.png").stat().st_size > 10_000


@pytest.mark.slow
def test_a_sweep_leaves_one_table(igpo, tmp_path: Path) -> None:
    done = igpo(
        "-m",
        "inpaint.ratio=0.0,0.6",
        "seed=0,1",
        *SHORT_RL[:-1],
        "stage.steps=1",
        "stage.eval_before=false",
        "hydra.sweep.dir=sweep",
    )
    with (tmp_path / "sweep" / "sweep.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4
    assert {(row["inpaint.ratio"], row["seed"]) for row in rows} == {
        (ratio, seed) for ratio in ("0.0", "0.6") for seed in ("0", "1")
    }
    assert {row["status"] for row in rows} == {"finished"}
    assert "sweep folder: sweep" in done.stdout


@pytest.mark.parametrize(
    "stage",
    ["rl", *(pytest.param(name, marks=pytest.mark.slow) for name in ("eval", "sft"))],
)
def test_without_data_the_command_says_how_to_provide_it(igpo, tmp_path: Path, stage: str) -> None:
    refused = igpo(f"stage={stage}", "data=amc", code=2, env={"HF_HOME": str(tmp_path)})
    for part in ("data=amc", "data.path", "IGPO_DATA_DIR", "AI-MO/"):
        assert part in refused.stderr
    assert "Traceback" not in refused.stderr
