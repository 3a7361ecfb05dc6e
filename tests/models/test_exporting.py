"""Exports: original names, bit for bit, with everything that belongs to a model's folder."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from igpo_lightning.models import checkpoint, load_backbone, load_tokenizer, save_export
from igpo_lightning.models.checkpoint import LARGEST_SHARD, shard_bytes
from igpo_lightning.models.tokenizer import train_tokenizer
from tests.peak_memory import WATCH
from tests.small_backbones import CONFIGS


def names_in(folder: Path) -> dict[str, list[int]]:
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        return {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(["Start 12; A+5; B-3"], vocab_size=300)


@pytest.mark.shared
@pytest.mark.parametrize("name", ["llada_mha", "llada_gqa", "llada_tied", "dream"])
def test_exports_carry_the_original_names(shared_golden, tmp_path, tokenizer, name: str) -> None:
    """Names, shapes and config.json are the original's, so the public code reads them."""
    model = load_backbone(str(shared_golden / name))
    save_export(model, tokenizer, tmp_path)
    assert names_in(tmp_path) == names_in(shared_golden / name)
    original = json.loads((shared_golden / name / "config.json").read_text())
    original.pop("torch_dtype")
    exported = json.loads((tmp_path / "config.json").read_text())
    assert exported.pop("torch_dtype") == "float32"
    assert exported == original
    again = load_backbone(str(tmp_path)).state_dict()
    for key, tensor in model.state_dict().items():
        assert torch.equal(again[key], tensor), key


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_export_and_load_are_bitwise_equal(native, tokenizer, tmp_path, name, dtype) -> None:
    model = native(name).to(dtype)
    save_export(model, tokenizer, tmp_path, max_shard_size=4_000)
    again = load_backbone(str(tmp_path), dtype=dtype)
    assert again.raw_config == model.raw_config
    for key, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[key], tensor), key


def test_whoever_may_read_the_folder_may_read_all_its_files(native, tokenizer, tmp_path) -> None:
    tmp_path.chmod(0o755)
    save_export(native("llada"), tokenizer, tmp_path, max_shard_size=4_000)
    modes = {file.name: oct(file.stat().st_mode & 0o777) for file in tmp_path.glob("*.safetensors")}
    assert len(modes) > 1
    assert set(modes.values()) == {"0o644"}, modes


def test_given_weights_replace_the_models_own(native, tokenizer, tmp_path: Path) -> None:
    model = native("llada")
    doubled = {name: 2 * tensor for name, tensor in model.state_dict().items()}
    save_export(model, tokenizer, tmp_path, doubled)
    again = load_backbone(str(tmp_path)).state_dict()
    assert all(torch.equal(again[name], doubled[name]) for name in doubled)


def test_tokenizer_template_and_public_code_travel_along(native, tokenizer, tmp_path) -> None:
    source, first, second = tmp_path / "source", tmp_path / "first", tmp_path / "second"
    save_export(native("llada"), tokenizer, source)
    (source / "modeling_llada.py").write_text("raise RuntimeError('never run')\n")
    (source / "generation_config.json").write_text("{}\n")
    config = json.loads((source / "config.json").read_text())
    config |= {"auto_map": {"AutoModel": "modeling_llada.LLaDAModelLM"}, "torch_dtype": "bfloat16"}
    (source / "config.json").write_text(json.dumps(config))
    save_export(load_backbone(str(source)), load_tokenizer(str(source)), first)
    save_export(load_backbone(str(first)), load_tokenizer(str(first)), second)
    assert (second / "modeling_llada.py").read_text() == "raise RuntimeError('never run')\n"
    assert (second / "generation_config.json").is_file()
    exported = json.loads((second / "config.json").read_text())
    assert exported["auto_map"] == config["auto_map"]
    assert exported["torch_dtype"] == "float32"  # what the weights are now
    again = load_tokenizer(str(second))
    chat = [{"role": "user", "content": "Start 12"}]
    assert again.apply_chat_template(chat, tokenize=False) == "<|user|>Start 12"
    assert again("A+5; B-3")["input_ids"] == tokenizer("A+5; B-3")["input_ids"]
    assert again.mask_token_id == tokenizer.mask_token_id


def test_code_of_a_hub_model_is_named_by_its_repository(native, tokenizer, tmp_path) -> None:
    model = native("llada")
    model.raw_config = model.raw_config | {"auto_map": {"AutoModel": "modeling_llada.LLaDAModelLM"}}
    model.source = "GSAI-ML/LLaDA-8B-Instruct"
    save_export(model, tokenizer, tmp_path)
    exported = json.loads((tmp_path / "config.json").read_text())
    expected = "GSAI-ML/LLaDA-8B-Instruct--modeling_llada.LLaDAModelLM"
    assert exported["auto_map"] == {"AutoModel": expected}


MEASURE = (
    WATCH
    + """
from igpo_lightning.models import load_backbone, load_tokenizer, save_export
from igpo_lightning.models.lora import add_lora
from igpo_lightning.settings import LoraConfig
small, large, folder, shard, lora = sys.argv[1:]
tokenizer = load_tokenizer(small)
save_export(load_backbone(small), tokenizer, folder)  # the libraries' own memory
model = load_backbone(large)
if lora == "lora":
    add_lora(model, LoraConfig(rank=4, alpha=8.0), seed=0)
start_watching()
save_export(model, tokenizer, folder, max_shard_size=int(shard))
print(grown() / int(shard), sum(p.numel() * 4 for p in model.parameters()) / int(shard))
"""
)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["full", "lora"])
def test_an_export_needs_the_memory_of_one_shard(native, tokenizer, tmp_path, kind: str) -> None:
    """450 MB of float32 weights in shards of 100 MB: the process grows by one shard, and by the
    one sum (here at most 6 MB) that is being made."""
    pytest.importorskip("psutil")
    sizes = {"hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 16}
    save_export(native("tiny"), tokenizer, tmp_path / "small")
    save_export(native("tiny", **sizes), tokenizer, tmp_path / "large")
    places = [str(tmp_path / name) for name in ("small", "large", "out")]
    command = [sys.executable, "-c", MEASURE, *places, str(10**8), kind]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    shards, weights = map(float, output.split())
    assert weights > 4
    assert shards < 1.2


def test_shards_shrink_where_memory_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A quarter of what is left: a shard, its sums and the page cache have room."""
    for left, expected in ((8_000, 2_000), (10**12, LARGEST_SHARD), (None, LARGEST_SHARD)):
        monkeypatch.setattr(checkpoint, "available_bytes", lambda left=left: left)
        assert shard_bytes() == expected
