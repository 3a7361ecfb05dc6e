"""The growing canvas: no mask ahead is there, hints wait or stand ahead, rows end by themselves."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from igpo_lightning.diffusion import SamplerConfig, denoise
from igpo_lightning.errors import ConfigError
from igpo_lightning.models.backbone import Layout
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
    made, waiting = [], replace(CONFIG, hints_ahead="waiting")
    for token in (7, 8):
        hints = torch.full((2, 12), -1)
        hints[:, 9] = token
        out = denoise(MODEL, PROMPTS, waiting, hint_ids=hints)
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


def growing_by_hand(model, prompt: torch.Tensor, hints: torch.Tensor, seen: bool) -> list[int]:
    """A token a step for one row, `prompt` [p] and `hints` [12]: blocks of 4 and hints ahead."""
    row = hints.clone()
    for stop in (4, 8, 12):
        while bool((row[:stop] == -1).any()):
            ahead = [i for i in range(stop, 12) if seen and hints[i] != -1]
            there = [*range(stop), *ahead]
            ids = torch.cat((prompt, row[there].masked_fill(row[there] == -1, 0)))
            places = torch.tensor([*range(len(prompt)), *(len(prompt) + i for i in there)])
            everything = torch.ones(1, len(ids), len(ids), dtype=torch.bool)
            with torch.no_grad():
                hidden = model.encode(ids[None], layout=Layout(places[None], everything))
                logits = model.project(hidden)[0, len(prompt) : len(prompt) + stop]
            logits[:, model.mask_token_id] = -torch.inf
            best = logits.softmax(dim=-1).max(dim=-1)
            at = int(best.values.masked_fill(row[:stop] != -1, -1).argmax())
            row[at] = best.indices[at]
    return row.tolist()


@pytest.mark.parametrize("name", ["tiny", "llada", "dream"])
@pytest.mark.parametrize("hints_ahead", ["visible", "waiting"])
def test_hints_ahead_are_seen_where_they_will_stand_or_not_at_all(name, hints_ahead) -> None:
    """Rows with prompts of 5 and 3, and with 3, 0 and 1 hints ahead of the first block."""
    model = build_native(name, **{"eos_token_id": 3})  # no random row writes it
    prompts, real = PROMPTS[[0, 1, 0]], torch.ones(3, 5, dtype=torch.bool)
    prompts, real[1, :2] = prompts.clamp(min=4), False
    hints = torch.full((3, 12), -1)
    hints[0, [1, 6, 9, 11]] = torch.tensor([7, 8, 9, 10])
    hints[2, 11] = 20
    config = replace(CONFIG, hints_ahead=hints_ahead)
    for cache in ("none", "prefix", "dual"):
        out = denoise(model, prompts, replace(config, cache=cache), real, hints)
        assert out.completion_ids[hints != -1].equal(hints[hints != -1])
        if cache == "none":
            for row in range(3):
                prompt = prompts[row, real[row]]
                wanted = growing_by_hand(model, prompt, hints[row], hints_ahead == "visible")
                ended = wanted.index(3) // 4 * 4 + 4 if 3 in wanted else 12
                assert out.completion_ids[row, :ended].tolist() == wanted[:ended]


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(["none", "prefix", "dual"]),
    st.sampled_from(["visible", "waiting"]),
    st.sampled_from([0.0, 1.0]),
    st.sampled_from([(), (5, 6)]),
    st.lists(st.tuples(st.integers(1, 5), st.integers(0, 4)), min_size=2, max_size=4),
)
def test_a_row_does_not_depend_on_its_batch(cache, ahead, temperature, think_ids, rows) -> None:
    """Rows by their prompt's length and their number of hints."""
    config = replace(
        CONFIG, cache=cache, hints_ahead=ahead, temperature=temperature, think_ids=think_ids
    )
    drawn = torch.Generator().manual_seed(3)
    prompts = torch.randint(3, VOCAB, (len(rows), 5), generator=drawn)
    real = torch.arange(5) >= 5 - torch.tensor([[length] for length, _ in rows])
    hints = torch.full((len(rows), 12), -1)
    for row, (_, count) in enumerate(rows):
        hints[row, (row + torch.arange(count) * 5) % 12] = 9 + row
    keys = torch.arange(len(rows)) + 5
    together = denoise(MODEL, prompts, config, real, hints, keys=keys)
    for row, (length, _) in enumerate(rows):
        part = slice(row, row + 1)
        alone = denoise(
            MODEL, prompts[part, -length:], config, hint_ids=hints[part], keys=keys[part]
        )
        assert torch.equal(alone.completion_ids[0], together.completion_ids[row])
        assert torch.equal(alone.unmask_step[0], together.unmask_step[row])


def test_thinking_ends_by_the_limit() -> None:
    """A boost beyond all logits writes 5, 6 at the first two free places; then it leaves off."""
    config = replace(CONFIG, think_ids=(5, 6), think_boost=1e6, think_power=0.0)
    out = denoise(MODEL, PROMPTS, config).completion_ids
    assert out[:, :2].tolist() == [[5, 6]] * 2
    hinted = torch.full((2, 12), -1)
    hinted[:, :2] = out[:, :2]
    # With both tokens given nothing is pushed: the same tokens as without the option.
    given_ = denoise(MODEL, PROMPTS, config, hint_ids=hinted)
    plain = denoise(MODEL, PROMPTS, CONFIG, hint_ids=hinted)
    assert torch.equal(given_.completion_ids, plain.completion_ids)


class WithoutPositions:
    """A model, as transformers' are, that is told no positions."""

    supports_packing = False

    def __getattr__(self, name: str):
        return getattr(MODEL, name)


def test_a_model_without_positions_cannot_see_ahead() -> None:
    hints = torch.full((2, 12), -1)
    hints[0, 9] = 7
    with pytest.raises(ConfigError, match=r"set sampler\.hints_ahead=waiting"):
        denoise(WithoutPositions(), PROMPTS, CONFIG, hint_ids=hints)
    waiting = replace(CONFIG, hints_ahead="waiting")
    out = denoise(WithoutPositions(), PROMPTS, waiting, hint_ids=hints)
    assert torch.equal(
        out.completion_ids, denoise(MODEL, PROMPTS, waiting, hint_ids=hints).completion_ids
    )
