"""stage=export: from a run's checkpoint, whole or in shards, to a folder that loads."""

import re
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from torch.distributed import checkpoint as dcp

from igpo_lightning.config import plain
from igpo_lightning.errors import ConfigError, RunError
from igpo_lightning.models import load_backbone, save_export
from igpo_lightning.models.lora import add_lora, merged_state
from igpo_lightning.models.tiny import TinyBackbone
from igpo_lightning.models.tokenizer import train_tokenizer
from igpo_lightning.runs.checkpoints import DurableCheckpointIO
from igpo_lightning.settings import LoraConfig
from igpo_lightning.stages import export
from tests.composing import composed
from tests.small_backbones import tiny_config

SIZES = tiny_config(300, intermediate_size=24, initializer_range=0.3)


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """A run's folder: its model's source, its configuration, and room for checkpoints."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_export(TinyBackbone(SIZES), train_tokenizer(["abc"], 300), tmp_path / "source")
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    return tmp_path / "run"


def export_of(run_folder: Path, checkpoint: Path, *overrides: str) -> Path:
    """Write the run's config.yaml, export its checkpoint, return the exported folder."""
    of_run = composed(
        "stage=rl", "logger=[]", f"model.path={run_folder.parent / 'source'}", *overrides
    )
    OmegaConf.save(plain(of_run), run_folder / "config.yaml")
    output = run_folder.parent / "exported"
    config = composed(
        "stage=export", "logger=[]", f"checkpoint={checkpoint}", f"stage.output={output}"
    )
    assert export.run(config) == {"export": str(output)}
    return output


def changed(model: TinyBackbone) -> dict[str, torch.Tensor]:
    """A state dict as after training, under a LightningModule's names."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.25)
    return {f"backbone.{name}": tensor for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("sharded", [False, True])
def test_a_checkpoint_becomes_a_models_folder(run_folder: Path, sharded: bool) -> None:
    model = load_backbone(str(run_folder.parent / "source"))
    state = changed(model)
    checkpoint = run_folder / "checkpoints" / "last.ckpt"
    extra = {"optimizer.moment": torch.zeros(2)}
    if sharded:
        flat = {f"state_dict.{name}": tensor for name, tensor in state.items()}
        dcp.save(flat | extra, checkpoint_id=checkpoint, no_dist=True)
    else:
        torch.save({"state_dict": state | {"reference.embed.weight": torch.zeros(1)}}, checkpoint)
    again = load_backbone(str(export_of(run_folder, checkpoint))).state_dict()
    assert again.keys() == model.state_dict().keys()
    assert all(torch.equal(again[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("adapters_alone", [False, True])
def test_adapters_are_merged(run_folder: Path, adapters_alone: bool) -> None:
    """Whether the checkpoint holds the frozen weights, or leaves them to model.path."""
    model = load_backbone(str(run_folder.parent / "source"))
    add_lora(model, LoraConfig(rank=2, alpha=4.0), seed=0)
    state = changed(model)
    if adapters_alone:
        state = {name: tensor for name, tensor in state.items() if "lora_" in name}
    checkpoint = run_folder / "checkpoints" / "last.ckpt"
    torch.save({"state_dict": state}, checkpoint)
    lora = ("model.lora.enabled=true", "model.lora.rank=2", "model.lora.alpha=4")
    again = load_backbone(str(export_of(run_folder, checkpoint, *lora))).state_dict()
    expected = merged_state(model, model.state_dict())
    assert again.keys() == expected.keys()
    assert all(torch.equal(again[name], tensor.make()) for name, tensor in expected.items())


def test_what_is_no_checkpoint_is_named(run_folder: Path) -> None:
    folder = run_folder / "checkpoints"
    with pytest.raises(ConfigError, match="is a folder without shards"):
        export.read_weights(folder)
    with pytest.raises(ConfigError, match="does not exist"):
        export.read_weights(folder / "none.ckpt")
    torch.save({"state_dict": {"other.weight": torch.zeros(1)}}, folder / "other.ckpt")
    with pytest.raises(ConfigError, match="holds no backbone"):
        export.read_weights(folder / "other.ckpt")


def test_a_checkpoint_of_another_model_is_refused(run_folder: Path) -> None:
    state = changed(load_backbone(str(run_folder.parent / "source")))
    del state["backbone.norm.weight"]
    state["backbone.embed.weight"] = torch.zeros(2, 16)
    checkpoint = run_folder / "checkpoints" / "last.ckpt"
    torch.save({"state_dict": state}, checkpoint)
    with pytest.raises(ConfigError, match=r"missing: norm\.weight.*\[2, 16\]"):
        export_of(run_folder, checkpoint)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite_are_not_exported(run_folder: Path, value: float) -> None:
    model = load_backbone(str(run_folder.parent / "source"))
    state = changed(model)
    name = next(name for name in state if state[name].is_floating_point())
    state[name].view(-1)[-1] = value
    checkpoint = run_folder / "checkpoints" / "last.ckpt"
    torch.save({"state_dict": state}, checkpoint)
    with pytest.raises(RunError, match=re.escape(name.removeprefix("backbone."))):
        export_of(run_folder, checkpoint)
    assert not list(run_folder.parent.glob("exported*"))


def test_a_damaged_checkpoint_is_not_exported(run_folder: Path) -> None:
    """Sealed and flipped, sealed and cut off, and never a checkpoint at all."""
    file = run_folder / "checkpoints" / "last.ckpt"
    state = changed(load_backbone(str(run_folder.parent / "source")))
    DurableCheckpointIO().save_checkpoint({"state_dict": state}, file)
    whole = file.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for content in (bytes(flipped), whole[: len(whole) // 2], b"nothing"):
        file.write_bytes(content)
        with pytest.raises(ConfigError, match="is damaged"):
            export_of(run_folder, file)
