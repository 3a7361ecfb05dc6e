"""RL and SFT of decoders with full and with block-causal attention, from the command line."""

import math
from pathlib import Path

import pytest
import torch

from igpo_lightning.models import load_backbone
from tests.integration.small_runs import RL, SFT, Runs, decoder, results

# The model's own file of conf/model, at the size of a test; SDAR's blocks have 4 tokens.
MODELS = {"illada": "illada_8b", "sdar": "sdar_8b"}
SMALL = (
    "data=arithmetic",
    "trainer=cpu",
    "model.init=pretrained",
    "model.dtype=float32",
    "sampler.block_length=4",
    "stage.steps=2",
)
LORA = ("model.lora.rank=2",)
ALL_WEIGHTS = ("model.lora.enabled=false",)
GROWING = (*LORA, "sampler.canvas=growing")
FAST = [("igpo_paper", "sdar", LORA)]
SLOW = [
    (experiment, name, weights)
    for experiment in ("igpo_paper", "tracerl")
    for name in MODELS
    for weights in (LORA, ALL_WEIGHTS)
    if (experiment, name, weights) not in FAST
] + [("igpo_paper", "illada", GROWING)]


def check(runs: Runs, folder: Path, metric: str) -> None:
    """Finite numbers, other weights than before, and an export that is read back."""
    made = [float(row[metric]) for row in results(folder)["metrics"] if metric in row]
    assert made
    assert all(math.isfinite(value) for value in made)
    before, after = load_backbone(str(runs.model)), load_backbone(str(folder / "export"))
    assert type(after) is type(before)
    assert after.block_size == before.block_size
    moved = [
        not torch.equal(a, b) for a, b in zip(before.parameters(), after.parameters(), strict=True)
    ]
    assert any(moved)


@pytest.mark.parametrize(
    ("experiment", "name", "weights"),
    [*FAST, *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW)],
)
def test_reinforcement(
    runs: Runs, tmp_path: Path, experiment: str, name: str, weights: tuple[str, ...]
) -> None:
    own, folder = decoder(runs, name, tmp_path / "model"), tmp_path / "run"
    model = (f"experiment={experiment}", f"model={MODELS[name]}")
    assert own.start(folder, *RL, *model, *SMALL, *weights) == 0, own.log(folder)
    check(own, folder, "policy/loss")


@pytest.mark.parametrize("name", ["sdar", pytest.param("illada", marks=pytest.mark.slow)])
def test_fine_tuning(runs: Runs, tmp_path: Path, name: str) -> None:
    own, folder = decoder(runs, name, tmp_path / "model"), tmp_path / "run"
    args = (*SFT, f"model={MODELS[name]}", *SMALL, *ALL_WEIGHTS)
    assert own.start(folder, *args, "stage.val_limit=4") == 0, own.log(folder)
    check(own, folder, "sft/loss")
