"""A training step on another device than the CPU: no tensor is on the wrong one.

Covered are rollout, inpainting, scoring and the loss with its gradient, for every estimator of the
likelihood, on one device. Not covered: the optimizer and the trainer (torch's and Lightning's own),
kernels that only a GPU has, autocast, and sharding.
"""

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from pretended_device import DEVICE, Elsewhere, moved
from tiny_training import SETTINGS, TOKENIZER, PlannedPool, backbone, problem

from igpo_lightning.data.collate import PromptBatch
from igpo_lightning.diffusion import token_choice
from igpo_lightning.rl.module import RLModule
from igpo_lightning.rl.objectives import policy_loss
from igpo_lightning.settings import LikelihoodConfig
from igpo_lightning.settings.likelihood import ESTIMATORS

BATCH = PromptBatch(0, [problem("a"), problem("b")], [0, 0], [True, True])

# Where a step reads values, once a call: a new place is a new wait for the device. No denoising
# step (diffusion/step.py, token_choice.py, unmasking.py) is among them.
_SAMPLING = {
    *("diffusion/cache.py:_distinct", "diffusion/noise.py:fold", "diffusion/sampler.py:_fill"),
    *("diffusion/sampler.py:denoise", "evaluation/answer.py:<listcomp>", "rl/sampler.py:complete"),
    "rl/sampler.py:sample",
    *("diffusion/slots.py:fill_slots", "diffusion/slots.py:report"),
}
READS = {
    "rollout": _SAMPLING,
    "inpainting": {
        *_SAMPLING,
        *("rl/injection.py:plan_replacements", "rl/inpainter.py:all_wrong_share"),
        *("rl/inpainter.py:inpaint", "rl/inpainter.py:sample_extra"),
        "rl/sampler.py:refuse_given",
    },
    "scoring": {
        *("diffusion/likelihood.py:token_scores", "diffusion/noise.py:fold"),
        *("rl/filters.py:top_entropy", "rl/scorer.py:score_rows", "rl/scorer.py:weights"),
    },
    "update": {  # elsewhere: autograd, of what token_scores has read
        *("diffusion/likelihood.py:token_scores", "rl/scorer.py:score_rows", "elsewhere"),
    },
}


@pytest.fixture(autouse=True)
def device(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the device would have of its own."""
    # None of them knows a device "meta".
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda *_: False)
    monkeypatch.setattr(torch, "get_autocast_dtype", lambda _: torch.bfloat16)
    for sizes in (token_choice.CHUNK, token_choice.HEAD_CHUNK):
        monkeypatch.setitem(sizes, DEVICE.type, sizes["cuda"])


def module(kind: str = "mean_field") -> RLModule:
    """All groups are wrong at first; the pool finds half of the extra samples right."""
    calls = iter(range(100))
    rounds: dict[str, int] = {}

    def rule(row: int, _: str) -> bool:
        if row == 0:
            rounds["call"] = next(calls)
        return rounds["call"] > 0 and row % 2 == 0

    settings = replace(SETTINGS, likelihood=LikelihoodConfig(kind=kind, block_length=8))
    return RLModule(backbone(), TOKENIZER, PlannedPool(rule), settings)


def step(made: RLModule, batch: PromptBatch, mode: Elsewhere) -> dict[str, list[str]]:
    """Algorithm 1 up to the gradient; returns where each part read values."""
    reads: dict[str, list[str]] = {}

    def note(part: str) -> None:
        reads[part] = sorted(set(mode.reads))
        mode.reads.clear()

    first = made.sampler.groups(batch)
    note("rollout")
    rollout, _ = made.inpainter.inpaint(batch, first)
    note("inpainting")
    advantages = made.scorer.advantages(batch, rollout)
    experience = made.scorer.experience(batch, rollout, advantages)
    note("scoring")
    for rows in made.scorer.micro_batches(len(experience.row_of)):
        reference = experience.reference
        loss, _ = policy_loss(
            made.scorer.trained_scores(experience, rows).logp,
            experience.old.logp[rows],
            experience.advantages[experience.row_of[rows]],
            experience.loss_mask[rows],
            ref_logp=None if reference is None else reference.logp[rows],
            weights=experience.weights[rows],
            settings=made.settings.objective,
        )
        loss.backward()
    note("update")
    return reads


def stepped(kind: str) -> tuple[RLModule, dict[str, list[str]]]:
    mode = Elsewhere()
    with mode:
        made = module(kind)
        moved(made.backbone)
        if made.reference is not None:
            moved(made.reference)
        return made, step(made, BATCH.to(DEVICE), mode)


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_a_step_stays_on_its_device(kind: str) -> None:
    """Gradients are those of the same step on the CPU, to rounding."""
    made, reads = stepped(kind)
    for part, places in reads.items():
        assert set(places) <= READS[part], part
    plain = module(kind)
    step(plain, BATCH, Elsewhere())
    for there, here in zip(made.backbone.parameters(), plain.backbone.parameters(), strict=True):
        assert there.device == DEVICE
        assert (there.grad is None) == (here.grad is None)
        if here.grad is not None:
            torch.testing.assert_close(there.grad.value, here.grad, rtol=1e-3, atol=1e-5)
    assert made.backbone.head.weight.grad is not None


def test_a_tensor_on_the_wrong_device_is_refused() -> None:
    with Elsewhere() as mode:
        there = torch.arange(3, device=DEVICE)
        with pytest.raises(RuntimeError, match="of the CPU among those of the device"):
            there + torch.arange(3)
        assert (there + torch.tensor(1)).device == DEVICE  # a number is no tensor of the CPU
        assert (there + torch.arange(3).to(DEVICE)).tolist() == [0, 2, 4]
        assert int(there[2]) == 2
    assert len(mode.reads) == 2
