"""Weights in and out: strictly, lightly, and bit for bit."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from igpo_lightning.errors import ConfigError
from igpo_lightning.models import load_backbone
from igpo_lightning.models.checkpoint import read_tensors, save_weights
from igpo_lightning.models.lora import merged_state
from tests.peak_memory import WATCH


def write(folder: Path, model, shard_size: int | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(model.raw_config))
    save_weights(
        model.checkpoint_names(merged_state(model, model.state_dict())), folder, shard_size
    )
    return folder


def test_every_kind_of_tensor_is_read_as_it_was_written(tmp_path: Path) -> None:
    tensors = {
        "half": torch.randn(3, 2).to(torch.bfloat16),
        "ids": torch.arange(5),
        "empty": torch.empty(0, 4),
        "scalar": torch.tensor(2.5, dtype=torch.float64),
        "flags": torch.tensor([True, False]),
    }
    save_file(tensors, tmp_path / "all.safetensors", metadata={"format": "pt"})
    read = {name: t.clone() for name, t in read_tensors(tmp_path / "all.safetensors")}
    assert read.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert read[name].dtype == tensor.dtype
        assert read[name].shape == tensor.shape
        assert torch.equal(read[name], tensor)


@pytest.mark.parametrize("name", ["dream", "llada", "llada2", "tiny"])
def test_shards_load_like_one_file(native, tmp_path: Path, name: str) -> None:
    model = native(name)
    folder = write(tmp_path, model, shard_size=4_000)
    files = sorted(folder.glob("model-*.safetensors"))
    assert len(files) > 2
    assert (folder / "model.safetensors.index.json").is_file()
    loaded = load_backbone(str(folder)).state_dict()
    for key, tensor in model.state_dict().items():
        assert torch.equal(loaded[key], tensor), key


def test_weights_come_in_the_wanted_dtype_and_can_be_trained(native, tmp_path: Path) -> None:
    model = load_backbone(str(write(tmp_path, native("llada"))), dtype=torch.bfloat16)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert all(p.requires_grad for p in model.parameters())
    assert not model.training


def test_misfits_are_named(native, tmp_path: Path) -> None:
    folder = write(tmp_path, native("llada"))
    weights = load_file(folder / "model.safetensors")
    del weights["model.transformer.ln_f.weight"]
    weights["model.transformer.extra.weight"] = torch.zeros(2)
    weights["model.transformer.wte.weight"] = torch.zeros(3, 16)
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(ConfigError) as error:
        load_backbone(str(folder))
    text = str(error.value)
    assert "missing: model.transformer.ln_f.weight" in text
    assert "unexpected: model.transformer.extra.weight" in text
    assert "model.transformer.wte.weight [3, 16] instead of [40, 16]" in text


def test_broken_files_are_named(native, tmp_path: Path) -> None:
    folder = write(tmp_path / "cut", native("tiny"))
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:-10])
    with pytest.raises(ConfigError, match="cut off within"):
        load_backbone(str(folder))
    (folder / "model.safetensors").write_bytes(b"\x05\0\0\0\0\0\0\0hello")
    with pytest.raises(ConfigError, match="no safetensors file"):
        load_backbone(str(folder))
    (folder / "model.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"neither model\.safetensors nor"):
        load_backbone(str(folder))


def test_an_absent_shard_is_named(native, tmp_path: Path) -> None:
    folder = write(tmp_path, native("tiny"), shard_size=4_000)
    lost = sorted(folder.glob("model-*.safetensors"))[1]
    lost.unlink()
    with pytest.raises(ConfigError, match=lost.name):
        load_backbone(str(folder))


MEASURE = (
    WATCH
    + """
from igpo_lightning.models import load_backbone
load_backbone(sys.argv[1])  # the libraries' own memory is not the checkpoint's
start_watching()
model = load_backbone(sys.argv[2], dtype=getattr(torch, sys.argv[3]))
growth = grown()
weights = sum(p.numel() * p.element_size() for p in model.parameters())
print(growth / weights, weights / 2**20)
"""
)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_loading_peaks_at_the_weights_and_little_more(native, tmp_path: Path, dtype: str) -> None:
    """A float32 checkpoint of 450 MB in shards of 100 MB: the resident memory of the process grows
    by at most 1.15 times the weights in their final dtype."""
    pytest.importorskip("psutil")
    sizes = {"hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 16}
    with torch.device("meta"):
        model = native("tiny", **sizes)
    small = write(tmp_path / "small", native("tiny"))
    large = write(tmp_path / "large", model.to_empty(device="cpu"), shard_size=10**8)
    command = [sys.executable, "-c", MEASURE, str(small), str(large), dtype]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    ratio, megabytes = map(float, output.split())
    assert megabytes > 200
    assert ratio < 1.15
