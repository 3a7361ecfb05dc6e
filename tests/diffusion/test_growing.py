"""The growing canvas: nothing ahead is seen, hints wait, rows end by themselves."""

import torch

from igpo_lightning.diffusion import SamplerConfig, denoise
from tests.small_backbones import VOCAB, build_native

MODEL = build_native("llada")
CONFIG = SamplerConfig(completion_length=12, block_length=4, steps=12, canvas="growing")
PROMPTS = torch.randint(3, VOCAB, (2, 5), generator=torch.Generator().manual_seed(0))


def test_each_block_is_the_usual_loop_on_what_is_there() -> None:
    out = denoise(MODEL, PROMPTS, CONFIG)
    one = SamplerConfig(completion_length=4, block_length=4, steps=4)
    canvas = PROMPTS
    for _ in range(3):
        made = denoise(MODEL, canvas, one)
        assert not made.completion_ids.eq(MODEL.eos_token_id).any()
        canvas = torch.cat((canvas, made.completion_ids), dim=1)
    assert torch.equal(out.completion_ids, canvas[:, 5:])
    assert out.unmask_step.sort(dim=1).values.tolist() == [list(range(12))] * 2
    assert out.forward_passes == 12


def test_a_waiting_hint_changes_nothing_before_it() -> None:
    made = []
    for token in (7, 8):
        hints = torch.full((2, 12), -1)
        hints[:, 9] = token
        out = denoise(MODEL, PROMPTS, CONFIG, hint_ids=hints)
        assert out.completion_ids[:, 9].eq(token).all()
        assert out.hint_mask.equal(hints != -1)
        made.append(out.completion_ids[:, :8])
    assert torch.equal(*made)


def test_a_row_ends_with_the_block_of_its_eos() -> None:
    """An EOS hinted into row 0's first block ends it there; row 1 is what it is alone."""
    hints = torch.full((2, 12), -1)
    hints[0, 2] = MODEL.eos_token_id
    hints[0, 11] = 9
    out = denoise(MODEL, PROMPTS, CONFIG, hint_ids=hints)
    eos = MODEL.eos_token_id
    assert out.completion_ids[0, 4:].tolist() == [eos] * 7 + [9]
    assert out.unmask_step[0, 4:].tolist() == [3] * 7 + [-1]
    alone = denoise(MODEL, PROMPTS[1:], CONFIG)
    assert torch.equal(alone.completion_ids[0], out.completion_ids[1])
    assert torch.equal(alone.unmask_step[0], out.unmask_step[1])
