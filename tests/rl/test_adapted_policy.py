"""RL with adapters: the reference is the same weights with adapters off."""

from copy import deepcopy

import pytest
import tiny_training
import torch
from tiny_training import backbone, train

from igpo_lightning.models.lora import add_lora
from igpo_lightning.rl import module
from igpo_lightning.settings import LoraConfig, ObjectiveConfig


def first_of_each_group(row: int, text: str) -> bool:
    return row % 4 == 0


@pytest.fixture(autouse=True)
def adapted(monkeypatch) -> None:
    """Every policy of these tests has adapters."""

    def build() -> torch.nn.Module:
        model = backbone()
        add_lora(model, LoraConfig(rank=4, alpha=8.0), seed=0)
        return model.train()

    monkeypatch.setattr(tiny_training, "backbone", build)


def test_adapters_alone_are_trained_and_no_copy_is_kept() -> None:
    run = train(first_of_each_group, steps=2, objective=ObjectiveConfig(beta=0.1))
    assert run.module.reference is None
    start = backbone().state_dict()
    for name, tensor in run.module.backbone.state_dict().items():
        if "lora_B" in name:
            assert tensor.abs().max() > 0, name  # it started at zero
        elif "lora_A" not in name:
            assert torch.equal(tensor, start[name.replace("base_layer.", "")]), name


def test_the_penalty_is_that_to_a_frozen_copy(monkeypatch) -> None:
    """A copy of the policy at the start, kept on purpose, gives the same run bit for bit; without
    a penalty the run is another one."""
    penalty = ObjectiveConfig(beta=5.0)
    shared = train(first_of_each_group, steps=2, objective=penalty)
    free = train(first_of_each_group, steps=2, objective=ObjectiveConfig(beta=0.0))

    def copy(model: torch.nn.Module) -> torch.nn.Module:
        return deepcopy(model).requires_grad_(False).eval()

    monkeypatch.setattr(module, "build_reference", copy)
    copied = train(first_of_each_group, steps=2, objective=penalty)
    assert copied.module.reference is not None
    assert torch.equal(shared.parameters(), copied.parameters())
    assert not torch.equal(shared.parameters(), free.parameters())
