"""What a checkpoint for resuming holds, and what loading it touches."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from igpo_lightning.models.lora import add_lora
from igpo_lightning.models.tiny import TinyBackbone
from igpo_lightning.models.trained_state import save_trained_only
from igpo_lightning.settings import LoraConfig
from tests.small_backbones import tiny_config


class Training(nn.Module):
    """A policy and its frozen reference, as the training modules hold them."""

    def __init__(self, lora: bool, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.backbone = TinyBackbone(
                tiny_config(20, num_hidden_layers=2, hidden_size=8, intermediate_size=12)
            )
        self.reference = deepcopy(self.backbone).requires_grad_(False)
        if lora:
            add_lora(self.backbone, LoraConfig(rank=2, alpha=4.0), seed)
        save_trained_only(self)


def values(module: Training) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in module.named_parameters()}


@pytest.mark.parametrize("lora", [False, True])
def test_the_trained_alone_are_saved_and_the_others_stay(lora: bool) -> None:
    module, other = Training(lora), Training(lora, seed=1)
    state, before = module.state_dict(), values(other)
    names = {n for n, p in module.named_parameters() if p.requires_grad}
    assert state.keys() == names
    assert all(n.startswith("backbone.") and ("lora_" in n) == lora for n in names)
    other.load_state_dict(state, strict=True)
    for name, tensor in values(other).items():
        assert torch.equal(tensor, state[name] if name in names else before[name]), name
    # The backbone's own state dict, which exports are made of, stays whole.
    assert "norm.weight" in module.backbone.state_dict()


def test_a_missing_adapter_and_an_unknown_name_are_refused() -> None:
    module = Training(lora=True)
    state = module.state_dict()
    lost = next(iter(state))
    with pytest.raises(RuntimeError, match=rf"Missing key.*{lost}"):
        module.load_state_dict({n: t for n, t in state.items() if n != lost})
    with pytest.raises(RuntimeError, match=r"Unexpected key.*backbone\.other"):
        module.load_state_dict({**state, "backbone.other": torch.zeros(1)})


def test_states_that_hold_frozen_weights_are_loaded_with_them() -> None:
    module, other = Training(lora=True), Training(lora=True, seed=1)
    whole = module.backbone.state_dict(prefix="backbone.")
    other.load_state_dict(whole)
    assert all(torch.equal(values(other)[name], tensor) for name, tensor in whole.items())
