"""Training adapters: what a checkpoint weighs, and that it is enough to go on from."""

import zipfile
from pathlib import Path

import torch

from tests.integration.small_runs import RL, Runs, results

LORA = (
    "model.lora.enabled=true",
    "model.lora.rank=2",
    "model.lora.alpha=4",
    "model.init=pretrained",
)
SHORT = ("stage.steps=2", "stage.eval_before=false", "objective.beta=0.1")


def test_adapters_alone_are_kept_and_a_kill_changes_nothing(runs: Runs, tmp_path: Path) -> None:
    """Killed in the first update of step 2. Adapters of rank 2 beside a block of width 16:
    qkv 2*16 + 48*2, attention_out 2*16 + 16*2, gate_up 2*16 + 64*2, down 2*32 + 16*2, in all
    448 numbers in 8 tensors; with AdamW's two means of each and the steps of 8 tensors that is
    3 * 448 + 8 float32 numbers."""
    args = (*RL, *LORA, *SHORT)
    assert runs.start(tmp_path / "whole", *args) == 0, runs.log(tmp_path / "whole")
    fault = {"target": "igpo_lightning.rl.module:clipped_step", "call": 3, "action": "kill"}
    assert runs.start(tmp_path / "killed", *args, faults=[fault]) == -9
    assert runs.start(tmp_path / "killed", *args) == 0, runs.log(tmp_path / "killed")
    assert results(tmp_path / "killed") == results(tmp_path / "whole")

    checkpoint = tmp_path / "whole" / "checkpoints" / "last.ckpt"
    state = torch.load(checkpoint, weights_only=True)["state_dict"]
    assert all("lora_" in name for name in state)
    assert sum(tensor.numel() for tensor in state.values()) == 448
    with zipfile.ZipFile(checkpoint) as file:
        stored = sum(e.file_size for e in file.infolist() if "/data/" in e.filename)
    assert stored == 4 * (3 * 448 + 8)
