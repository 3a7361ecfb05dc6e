"""Backbones over two ranks: same gradients as on one, whole weights for exports."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh

from igpo_lightning import distributed
from igpo_lightning.models import save_export
from igpo_lightning.models.backbone import BackboneModule
from igpo_lightning.models.checkpoint import read_tensors
from igpo_lightning.models.lora import adapters_off, add_lora, merged_state
from igpo_lightning.models.tokenizer import train_tokenizer
from igpo_lightning.settings import LoraConfig
from tests.ranks import run_ranks
from tests.small_backbones import build_native

IDS = torch.arange(24).view(4, 6)


def build(name: str, lora: bool, recompute: bool) -> BackboneModule:
    model = build_native(name)
    if lora:
        add_lora(model.to(torch.bfloat16), LoraConfig(rank=2, alpha=4.0), seed=0)
    if recompute:
        model.checkpoint_blocks()
    return model


def update(model: BackboneModule, ids: torch.Tensor) -> None:
    """One step of plain gradient descent, with a pass of the reference in between."""
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    with adapters_off(model), torch.no_grad():
        model.encode(ids)
    model.project(model.encode(ids)).float().square().mean().backward()
    optimizer.step()


def on_a_rank(rank: int, folder: str, name: str, lora: bool, recompute: bool) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=2)
    model = build(name, lora, recompute)
    distributed.shard(model, init_device_mesh("cpu", (2,)))
    update(model, IDS[2 * rank : 2 * rank + 2])
    save_export(model, train_tokenizer(["abc"], vocab_size=270), f"{folder}/export", None, 2_000)
    dist.destroy_process_group()


def values(model: BackboneModule) -> dict[str, torch.Tensor]:
    """The weights by their names in an export."""
    state = model.checkpoint_names(merged_state(model, model.state_dict()))
    return {name: tensor.make().clone() for name, tensor in state.items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tiny", "illada", "sdar", "llada2"])
@pytest.mark.parametrize(("lora", "recompute"), [(False, True), (True, True)])
def test_two_ranks_take_the_step_of_one(
    tmp_path: Path, name: str, lora: bool, recompute: bool
) -> None:
    run_ranks(on_a_rank, 2, str(tmp_path), name, lora, recompute)
    files = sorted((tmp_path / "export").glob("*.safetensors"))
    assert len(files) > 2
    sharded = {name: t.clone() for file in files for name, t in read_tensors(file)}
    model = build(name, lora, recompute=False)
    before = values(model)
    update(model, IDS)
    expected = values(model)
    assert sharded.keys() == expected.keys()
    assert any((expected[name] - before[name]).abs().max() > 1e-3 for name in expected)
    tolerance = {"atol": 2e-2, "rtol": 2e-2} if lora else {"atol": 1e-5, "rtol": 1e-4}
    for name, tensor in expected.items():
        torch.testing.assert_close(sharded[name], tensor, **tolerance)
