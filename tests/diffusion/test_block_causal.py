"""Block-causal sampling: exact over the cache, row by row, around hints."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from igpo_lightning.diffusion import SamplerConfig, denoise
from igpo_lightning.errors import ConfigError
from tests.small_backbones import VOCAB, build_native

NAMES = ["sdar", "fast_dllm_v2", "llada2"]  # blocks of 3
MODELS = {name: build_native(name) for name in NAMES}
CONFIG = SamplerConfig(completion_length=9, block_length=3, steps=9)


def prompts(lengths: list[int], width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Random prompts of these lengths, padded on the left to a width."""
    ids = torch.full((len(lengths), width), 2)
    real = torch.zeros_like(ids, dtype=torch.bool)
    for row, length in enumerate(lengths):
        drawn = torch.Generator().manual_seed(row)
        ids[row, width - length :] = torch.randint(3, VOCAB, (length,), generator=drawn)
        real[row, width - length :] = True
    return ids, real


def uncached(model, prompt: torch.Tensor, length: int) -> list[int]:
    """The greedy loop in whole passes, a token a step: what a cache must not change.

    `prompt` is [p] without padding. Within a block the most confident mask goes first; the first
    token of a shifted model's block is read once the block before is whole.
    """
    width, mask = model.block_size, model.mask_token_id
    total = -(-(len(prompt) + length) // width) * width
    canvas = torch.full((1, total), mask)
    canvas[0, : len(prompt)] = prompt
    for start in range(len(prompt) // width * width, total, width):
        block = slice(start, start + width)
        while bool((canvas[0, block] == mask).any()):
            with torch.no_grad():
                logits = model(canvas)[0, block]
            logits[:, mask] = -torch.inf
            best = logits.softmax(dim=-1).max(dim=-1)
            confidence = best.values.masked_fill(canvas[0, block] != mask, -1)
            first = model.shifted and start > 0 and canvas[0, start] == mask
            at = 0 if first else int(confidence.argmax())
            canvas[0, start + at] = best.indices[at]
    return canvas[0, len(prompt) : len(prompt) + length].tolist()


@pytest.mark.parametrize("length", [2, 3, 4, 6, 7])
@pytest.mark.parametrize("name", NAMES)
def test_the_cache_changes_no_token(name: str, length: int) -> None:
    ids, _ = prompts([length], length)
    out = denoise(MODELS[name], ids, CONFIG)
    assert out.completion_ids[0].tolist() == uncached(MODELS[name], ids[0], 9)
    assert out.body_tokens < out.canvas_tokens


@settings(max_examples=20, deadline=None)
@given(
    st.sampled_from(NAMES),
    st.lists(st.integers(1, 7), min_size=1, max_size=4),
    st.integers(0, 2),
    st.sampled_from([0.0, 1.0]),
    st.sampled_from([None, 0.1]),
    st.integers(0, 3),
)
def test_a_row_depends_on_its_prompt_hints_and_key_alone(
    name, lengths, more, temperature, threshold, hinted
) -> None:
    ids, real = prompts(lengths, max(lengths) + more)
    config = SamplerConfig(
        completion_length=9,
        block_length=3,
        steps=9,
        temperature=temperature,
        confidence_threshold=threshold,
    )
    hints = torch.full((len(lengths), 9), -1)
    for row in range(len(lengths)):
        hints[row, (row + torch.arange(hinted) * 2) % 9] = 5 + row
    keys = torch.arange(len(lengths)) + 11
    together = denoise(MODELS[name], ids, config, real, hints, keys=keys)
    assert torch.equal(together.hint_mask, hints != -1)
    assert torch.equal(together.completion_ids[hints != -1], hints[hints != -1])
    assert not together.completion_ids.eq(MODELS[name].mask_token_id).any()
    for row, length in enumerate(lengths):
        alone = denoise(
            MODELS[name],
            ids[row : row + 1, -length:],
            config,
            hint_ids=hints[row : row + 1],
            keys=keys[row : row + 1],
        )
        assert torch.equal(alone.completion_ids[0], together.completion_ids[row])
        assert torch.equal(alone.unmask_step[0], together.unmask_step[row])


@pytest.mark.parametrize("name", NAMES)
def test_a_hint_is_seen_once_its_block_is_reached(name: str) -> None:
    """A hint in block 2 of the completion changes nothing before it, whatever its token."""
    ids, _ = prompts([6], 6)
    made = []
    for token in (7, 8):
        hints = torch.full((1, 9), -1)
        hints[0, 7] = token
        made.append(denoise(MODELS[name], ids, CONFIG, hint_ids=hints).completion_ids[0])
    assert torch.equal(made[0][:6], made[1][:6])
    assert made[0][7] == 7
    assert made[1][7] == 8


def test_tokens_leave_in_the_order_that_the_strategy_names() -> None:
    """Sequential: one token a step from left to right, all nine in nine steps."""
    config = SamplerConfig(completion_length=9, block_length=3, steps=9, remasking="sequential")
    out = denoise(MODELS["sdar"], prompts([6], 6)[0], config)
    assert out.unmask_step[0].tolist() == list(range(9))
    # One pass for the prompt, three steps a block, and one clean pass after each but the last.
    assert out.forward_passes == 1 + 3 * 3 + 2


@pytest.mark.parametrize(
    ("change", "fix"),
    [
        ({"block_length": 9}, r"block_length=9: the model's blocks have 3 tokens"),
        ({"cache": "dual"}, r"cache=dual: .* exact cache; set sampler\.cache=none"),
        ({"cfg_scale": 1.0}, r"cfg_scale=1\.0"),
        ({"edit_threshold": 0.5, "block_length": 1}, r"edit_threshold=0\.5: whole blocks"),
    ],
)
def test_settings_without_meaning_are_refused(change, fix) -> None:
    config = SamplerConfig(**({"completion_length": 9, "block_length": 3, "steps": 9} | change))
    with pytest.raises(ConfigError, match=fix):
        denoise(MODELS["sdar"], prompts([6], 6)[0], config)


def test_a_row_that_leaves_first_takes_nothing_with_it() -> None:
    """Row 0 is hinted to the end of its first block, EOS included: no pass has run all rows."""
    model = MODELS["sdar"]
    ids, _ = prompts([2, 2], 2)
    hints = torch.full((2, 9), -1)
    hints[0, 0] = model.eos_token_id
    config = replace(CONFIG, stop_after_eos=True)
    out = denoise(model, ids, config, hint_ids=hints)
    assert out.completion_ids[0].eq(model.eos_token_id).all()
    alone = denoise(model, ids[1:], config)
    assert torch.equal(out.completion_ids[1], alone.completion_ids[0])


def test_full_attention_is_not_edited() -> None:
    config = replace(CONFIG, edit_threshold=0.5)
    with pytest.raises(ConfigError, match=r"edit_threshold=0\.5: only block-causal models"):
        denoise(build_native("llada"), prompts([6], 6)[0], config)


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.integers(1, 7), min_size=1, max_size=3),
    st.sampled_from(
        [
            {"edit_threshold": 0.0, "edit_passes": 3},
            {"edit_threshold": 0.05, "confidence_threshold": 0.1},
            {"entropy_bound": 0.5},
            {"cache": "dual", "block_length": 1},
        ]
    ),
    st.sampled_from([0.0, 1.0]),
)
def test_no_rule_lets_a_row_know_its_batch(lengths, rule, temperature) -> None:
    model = MODELS["fast_dllm_v2" if "cache" in rule else "llada2"]
    ids, real = prompts(lengths, max(lengths))
    hints = torch.full((len(lengths), 9), -1)
    for row in range(len(lengths)):
        hints[row, [row, row + 4]] = 5 + row
    config = replace(CONFIG, temperature=temperature, **rule)
    keys = torch.arange(len(lengths)) + 3
    together = denoise(model, ids, config, real, hints, keys=keys)
    assert torch.equal(together.completion_ids[hints != -1], hints[hints != -1])
    assert not together.completion_ids.eq(model.mask_token_id).any()
    for row, length in enumerate(lengths):
        part = slice(row, row + 1)
        alone = denoise(model, ids[part, -length:], config, hint_ids=hints[part], keys=keys[part])
        assert torch.equal(alone.completion_ids[0], together.completion_ids[row])
        assert torch.equal(alone.unmask_step[0], together.unmask_step[row])


def edited(model, prompt: torch.Tensor, threshold: float, passes: int) -> list[int]:
    """LLaDA 2.1's loop in whole passes for one row [p], 9 tokens; a mask a step, and edits."""
    length, mask = len(prompt), model.mask_token_id
    total = -(-(length + 9) // 3) * 3
    canvas = torch.full((1, total), mask)
    canvas[0, :length] = prompt
    for start in range(length // 3 * 3, total, 3):
        block, left = slice(start, start + 3), passes
        own = torch.arange(start, start + 3) >= length
        while left > 0:
            masked = canvas[0, block] == mask
            left -= not bool(masked.any())
            with torch.no_grad():
                logits = model(canvas)[0, block]
            logits[:, mask] = -torch.inf
            best = logits.softmax(dim=-1).max(dim=-1)
            change = own & ~masked & (best.indices != canvas[0, block]) & (best.values > threshold)
            over = not bool(masked.any() | change.any())
            if masked.any():
                change[best.values.masked_fill(~masked, -1).argmax()] = True
            canvas[0, block] = torch.where(change, best.indices, canvas[0, block])
            if over:
                break
    return canvas[0, length : length + 9].tolist()


@pytest.mark.parametrize("threshold", [0.0, 0.1, 0.9])
@pytest.mark.parametrize("length", [4, 6])
def test_editing_is_the_plain_loop_over_the_cache(length: int, threshold: float) -> None:
    model, (ids, _) = MODELS["llada2"], prompts([length], length)
    out = denoise(model, ids, replace(CONFIG, edit_threshold=threshold, edit_passes=3))
    assert out.completion_ids[0].tolist() == edited(model, ids[0], threshold, 3)
    if threshold == 0:  # passes over blocks without masks have changed something
        assert out.unmask_step.max() > 9
