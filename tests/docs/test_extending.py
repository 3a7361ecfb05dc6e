"""docs/extending.md shows the files of examples/, and each works from outside the package."""

import json
import re
import runpy
import shutil
from pathlib import Path

import pytest
import torch

from igpo_lightning.models import loading
from tests.docs.commands import ROOT
from tests.docs.conftest import SMALL_RUN, Desk

PAGE = ROOT / "docs" / "extending.md"
EXAMPLES = ROOT / "examples"
OWN = ("--config-dir", "examples")


def shown() -> dict[str, str]:
    """The files that the page shows, by the name above each block."""
    found = re.findall(r"^`(examples/\S+)`:?\n\n```\w+\n(.*?)^```", PAGE.read_text(), re.M | re.S)
    return dict(found)


def test_the_page_shows_every_example_as_it_is() -> None:
    files = [f for f in EXAMPLES.rglob("*") if f.suffix in (".py", ".yaml", ".json")]
    assert {str(f.relative_to(ROOT)): f.read_text() for f in files} == shown()


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.py")), ids=lambda f: f.name)
def test_an_example_is_short(file: Path) -> None:
    assert len([line for line in file.read_text().splitlines() if line.strip()]) < 30


def test_an_objective_a_reward_and_data_of_ones_own_train(desk: Desk) -> None:
    status, log = desk.run(
        *OWN,
        *("objective=balanced", "reward=stepwise", "data=shop", *SMALL_RUN),
        *("stage.log_samples_every=1", "hydra.run.dir=runs/own"),
    )
    assert status == 0, log
    samples = [
        json.loads(line)
        for line in (desk.folder / "runs" / "own" / "samples.jsonl").read_text().splitlines()
    ]
    for sample in samples:
        shows = min(sample["completion"].count("="), 4) / 4
        assert sample["reward_parts"]["steps_shown"] == shows
        assert sample["reward"] == pytest.approx(float(sample["correct"]) + 0.2 * shows)
        assert sample["id"].startswith("shop")


@pytest.mark.slow
def test_a_model_of_ones_own_trains_and_is_read_back(desk: Desk) -> None:
    status, log = desk.run("stage=tokenizer", "stage.output=runs/encoder", "stage.examples=200")
    assert status == 0, log
    shutil.copy(EXAMPLES / "encoder.json", desk.folder / "runs" / "encoder" / "config.json")
    sizes = ("stage.steps=2", "stage.batch_size=4", "stage.val_limit=4", "data.eval_size=8")
    status, log = desk.run(
        *(*OWN, "model=encoder", "stage=sft", *sizes, "eval.limit=2"),
        *("sampler=short", "hydra.run.dir=runs/own_encoder_sft"),
    )
    assert status == 0, log
    read_back = ("model.path=runs/own_encoder_sft/export", "model.init=pretrained")
    status, log = desk.run(
        *(*OWN, "model=encoder", *read_back, "sampler=short", *SMALL_RUN),
        "hydra.run.dir=runs/own_encoder_rl",
    )
    assert status == 0, log
    assert (desk.folder / "runs" / "own_encoder_rl" / "export" / "model.safetensors").exists()


def test_the_examples_model_keeps_what_a_backbone_promises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "NATIVE", dict(loading.NATIVE))  # forgets what is registered
    runpy.run_path(str(EXAMPLES / "encoder.py"))
    shutil.copy(EXAMPLES / "encoder.json", tmp_path / "config.json")
    model = loading.load_backbone(str(tmp_path), random_init=True)
    ids = torch.arange(12).view(2, 6) + 5
    padded = torch.cat((torch.full((2, 3), model.pad_token_id), ids), dim=1)
    mask = (torch.arange(9) >= 3).expand(2, 9)
    plain = model(ids)
    assert plain.shape == (2, 6, 512)
    torch.testing.assert_close(plain, model(padded, mask)[:, 3:], rtol=1e-4, atol=1e-5)
    window = model.project(model.encode(ids, window=(2, 4)))
    torch.testing.assert_close(window, plain[:, 2:4])
