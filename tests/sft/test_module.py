"""The loss of a batch: only the response counts, and the batch's layout does not."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from igpo_lightning.data.collate import TraceBatch
from igpo_lightning.diffusion.forward_process import sample_masks, sample_times
from igpo_lightning.diffusion.noise import row_keys, stable_seed
from igpo_lightning.models.tiny import TinyBackbone
from igpo_lightning.settings import Settings, SFTStage
from igpo_lightning.sft.module import SFTModule
from tests.small_backbones import tiny_config

B, P, C, V = 6, 5, 8, 24
MASK, EOS, PAD = 0, 1, 2


def sft(stage: SFTStage = SFTStage()) -> SFTModule:  # noqa: B008
    torch.manual_seed(0)
    sizes = tiny_config(V, num_hidden_layers=2, intermediate_size=24)
    tokenizer: Any = None  # decodes answers, of which there are none here
    return SFTModule(TinyBackbone(sizes), tokenizer, Settings(stage=stage))


def batch(step: int = 3) -> TraceBatch:
    generator = torch.Generator().manual_seed(1)
    prompt = torch.randint(3, V, (B, P), generator=generator)
    prompt_mask = torch.ones(B, P, dtype=torch.bool)
    prompt_mask[1, :2] = False  # padded on the left
    prompt[1, :2] = PAD
    completion = torch.randint(3, V, (B, C), generator=generator)
    completion[0, 5:] = EOS
    rows = list(range(step * B, (step + 1) * B))
    return TraceBatch(step, rows, list(range(B)), B, prompt, prompt_mask, completion)


def part(whole: TraceBatch, rows: list[int]) -> TraceBatch:
    """Some rows of a batch, as another rank would hold them."""
    index = torch.tensor(rows)
    return replace(
        whole,
        row_indices=[whole.row_indices[i] for i in rows],
        places=[whole.places[i] for i in rows],
        prompt_ids=whole.prompt_ids[index],
        prompt_mask=whole.prompt_mask[index],
        completion_ids=whole.completion_ids[index],
    )


def slow_nelbo(module: SFTModule, given: TraceBatch) -> Tensor:
    """LLaDA's Algorithm 2 as it is written: all logits, all positions, one row at a time."""
    losses = []
    for row in range(B):
        keys = row_keys([stable_seed(0, "sft", given.row_indices[row])])
        times = sample_times(keys)
        masks = sample_masks(keys, times, C)
        noised = given.completion_ids[row : row + 1].masked_fill(masks, MASK)
        real = given.prompt_mask[row]
        canvas = torch.cat((given.prompt_ids[row, real][None], noised), dim=1)
        logits = module.backbone(canvas)[0, -C:]  # no padding at all
        loss = cross_entropy(logits, given.completion_ids[row], reduction="none")
        losses.append((loss * masks[0]).sum() / times[0] / C)
    return torch.stack(losses).mean()


def test_the_loss_is_the_written_algorithm() -> None:
    module, given = sft(), batch()
    fast, slow = module.loss(given, slice(None), "sft"), slow_nelbo(module, given)
    assert fast.item() == pytest.approx(slow.item(), rel=1e-5)
    for parameter in module.backbone.parameters():
        (fast_grad,) = torch.autograd.grad(fast, parameter, retain_graph=True)
        (slow_grad,) = torch.autograd.grad(slow, parameter, retain_graph=True)
        torch.testing.assert_close(fast_grad, slow_grad, rtol=1e-4, atol=1e-5)


class Spy(TinyBackbone):
    """Keeps what it was asked for."""

    canvases: list[Tensor]
    projected: list[Tensor]

    def encode(self, input_ids: Tensor, *args: Any, **named: Any) -> Tensor:
        self.canvases = [*getattr(self, "canvases", []), input_ids]
        hidden = super().encode(input_ids, *args, **named)
        hidden.retain_grad()
        self.projected = [*getattr(self, "projected", []), hidden]
        return hidden


@pytest.mark.parametrize("complementary", [False, True])
def test_only_the_response_is_masked_and_learned(complementary: bool) -> None:
    module, given = sft(SFTStage(complementary=complementary)), batch()
    module.backbone.__class__ = Spy
    spy = module.backbone
    module.loss(given, slice(None), "sft").backward()
    assert len(spy.canvases) == 1 + complementary
    for canvas in spy.canvases:
        # The prompt goes in as it is; of the completion, tokens are their own or the mask.
        assert torch.equal(canvas[:, :P], given.prompt_ids)
        masked = canvas[:, P:] == MASK
        assert torch.equal(canvas[:, P:][~masked], given.completion_ids[~masked])
        assert bool(masked.any())
    for canvas, hidden in zip(spy.canvases, spy.projected, strict=True):
        # A loss at a position would send a gradient through it: there is one exactly where the
        # completion is masked. Prompt positions are not even given to the head.
        assert hidden.shape[1] == C
        assert hidden.grad is not None
        assert torch.equal(hidden.grad.abs().sum(dim=-1) > 0, canvas[:, P:] == MASK)


def test_eos_padding_is_learned() -> None:
    module, given = sft(), batch()
    module.backbone.__class__ = Spy
    spy = module.backbone
    losses = []
    for eos in (EOS, 9):
        changed = given.completion_ids.clone()
        changed[0, 5:] = eos
        losses.append(module.loss(replace(given, completion_ids=changed), slice(0, 1), "sft"))
    if bool((spy.canvases[0][0, P + 5 :] == MASK).any()):
        assert losses[0].item() != losses[1].item()
    else:
        pytest.fail("choose a step whose noise masks the padding")


@pytest.mark.parametrize(
    "noise",
    [
        SFTStage(),
        SFTStage(timesteps="low_discrepancy"),
        SFTStage(timesteps="low_discrepancy", complementary=True),
    ],
)
def test_layout_does_not_change_the_loss(noise: SFTStage) -> None:
    """Micro-batches of 1, 2, 3 rows and two ranks with interleaved rows: the same mean."""
    module, given = sft(noise), batch()
    with torch.no_grad():
        whole = module.loss(given, slice(None), "sft").item()
        for size in (1, 2, 3):
            slices = [slice(start, start + size) for start in range(0, B, size)]
            parts = [module.loss(given, rows, "sft").item() for rows in slices]
            assert sum(parts) / len(parts) == pytest.approx(whole, rel=1e-5)
        ranks = [part(given, [0, 2, 4]), part(given, [1, 3, 5])]
        shares = [module.loss(rank, slice(None), "sft").item() for rank in ranks]
        assert sum(shares) / 2 == pytest.approx(whole, rel=1e-5)


def test_validation_is_the_plain_bound_whatever_the_noise() -> None:
    given = batch()
    plain = sft().loss(given, slice(None), "validation").item()
    other = sft(SFTStage(timesteps="low_discrepancy", complementary=True)).loss(
        given, slice(None), "validation"
    )
    assert other.item() == plain
