"""Packing changes how a step is computed, and nothing about its loss."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from igpo_lightning import distributed
from igpo_lightning.data.collate import TraceBatch, TraceLayout
from igpo_lightning.data.packing import NOWHERE, PackedBatch, collate_packed
from igpo_lightning.data.problem import Problem
from igpo_lightning.data.prompts import EncodedProblem
from igpo_lightning.settings import Settings, SFTStage
from igpo_lightning.sft.module import SFTModule
from tests.small_backbones import build_native

C, V, PAD, EOS = 12, 24, 2, 1
SIZES = {"vocab_size": V, "mask_token_id": 0, "eos_token_id": EOS, "pad_token_id": PAD}
NOISES = [
    SFTStage(),
    SFTStage(timesteps="low_discrepancy"),
    SFTStage(timesteps="low_discrepancy", complementary=True),
]


def sft(name: str, noise: SFTStage, train_batch_size: int = 2) -> SFTModule:
    stage = replace(noise, train_batch_size=train_batch_size)
    tokenizer: Any = None
    return SFTModule(build_native(name, **SIZES), tokenizer, Settings(stage=stage))


def examples() -> list[tuple[int, EncodedProblem]]:
    """Seven prompts of 1 to 5 tokens with traces of 1 to 15, of which the last is cut to 12."""
    generator = torch.Generator().manual_seed(3)
    rows = []
    for i, (prompt, trace) in enumerate([(2, 3), (5, 4), (1, 1), (3, 6), (2, 2), (4, 5), (2, 15)]):
        drawn = torch.randint(3, V, (prompt + trace,), generator=generator).tolist()
        problem = Problem(str(i), "?", "t", "1")
        rows.append((70 + i, EncodedProblem(problem, drawn[:prompt], drawn[prompt:], None)))
    return rows


def packed(rank: int = 0, world: int = 1) -> PackedBatch:
    layout = TraceLayout(C, PAD, EOS, "packed", eos_tail=3, canvas_length=20)
    return collate_packed(10, examples(), layout, rank, world)


def alone(batch: PackedBatch, row: int) -> TraceBatch:
    """One sequence of a packed batch in a row of its own, with no padding but its EOS."""
    canvas = batch.canvas_ids[batch.canvas_of[row]]
    places = batch.places_in_canvas[row]
    completion = canvas[places[places != NOWHERE]]
    prompt = torch.tensor(dict(examples())[batch.row_indices[row]].prompt_ids)
    return TraceBatch(
        batch.step,
        [batch.row_indices[row]],
        [batch.places[row]],
        batch.step_rows,
        prompt[None],
        torch.ones(1, len(prompt), dtype=torch.bool),
        completion[None],
    )


def gradients(module: SFTModule, loss: torch.Tensor) -> list[torch.Tensor]:
    return list(torch.autograd.grad(loss, list(module.backbone.parameters())))


@pytest.mark.parametrize("name", ["tiny", "llada", "dream"])
@pytest.mark.parametrize("noise", NOISES)
def test_the_step_is_that_of_sequences_in_rows_of_their_own(name: str, noise: SFTStage) -> None:
    module, batch = sft(name, noise), packed()
    assert len(batch.canvas_ids) < len(batch.row_indices)  # something shares a canvas
    rows = range(len(batch.row_indices))
    each = [module.loss(alone(batch, row), slice(None), "sft") for row in rows]
    expected = torch.stack(each).mean()
    parts = list(module.micro_losses(batch))
    assert len(parts) > 1
    assert sum(share for _, share in parts) == pytest.approx(1.0)
    total = torch.stack([loss * share for loss, share in parts]).sum()
    torch.testing.assert_close(total, expected, rtol=1e-5, atol=1e-6)
    for mine, theirs in zip(gradients(module, total), gradients(module, expected), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


def test_ranks_share_the_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    """More ranks than canvases: some have nothing, make the same passes, and add nothing."""
    module = sft("tiny", SFTStage(), train_batch_size=1)
    whole = sum(loss.item() * share for loss, share in module.micro_losses(packed()))
    for world in (2, 8):
        monkeypatch.setattr(distributed, "world_size", lambda world=world: world)
        totals, passes = [], set()
        for rank in range(world):
            parts = list(module.micro_losses(packed(rank, world)))
            gradients(module, torch.stack([loss * share for loss, share in parts]).sum())
            totals.append(sum(loss.item() * share for loss, share in parts))
            passes.add(len(parts))
        assert len(passes) == 1
        assert sum(totals) / world == pytest.approx(whole, rel=1e-5)
