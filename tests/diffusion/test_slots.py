"""Full slots: whatever rows share a pass, a row's tokens are those of the row alone."""

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sampler_cases import BASE, CONFIGS, EOS, allowing, problem, tiny

from igpo_lightning.diffusion.noise import row_keys
from igpo_lightning.diffusion.plain import keyed_draws, plain_denoise
from igpo_lightning.diffusion.sampler import DenoiseOutput, Slots, denoise
from igpo_lightning.models.tiny import TinyBackbone

ROWS = 7
ENDING = {
    "end": replace(BASE, temperature=1.5, stop_after_eos=True),
    "end_threshold": replace(BASE, temperature=1.5, confidence_threshold=0.2, stop_after_eos=True),
    "remask": replace(BASE, remask=0.4),
    "narrow": replace(BASE, block_length=4, steps=8, temperature=0.8),
}
ALL = CONFIGS | ENDING


def case(seed: int = 0) -> dict[str, torch.Tensor]:
    """Rows with prompts of 1 to 6 tokens; of two rows, hints fill one block or everything."""
    made = problem(seed, ROWS, 16)
    made["hint_ids"][3, 8:], made["hint_ids"][5] = 7, 9
    return made


def model(name: str) -> TinyBackbone:
    """For rows that end, one that writes EOS often."""
    return allowing(tiny(), set(range(8))) if name in ENDING else tiny()


def watch(of: TinyBackbone) -> list[int]:
    """Rows of each pass from now on."""
    rows: list[int] = []
    encode = of.encode

    def watched(ids: torch.Tensor, *args: Any, **named: Any) -> torch.Tensor:
        rows.append(len(ids))
        return encode(ids, *args, **named)

    of.encode = watched  # type: ignore[method-assign]
    return rows


@cache
def alone(name: str, row: int, seed: int) -> DenoiseOutput:
    of = {key: value[row : row + 1] for key, value in case(seed).items()}
    return denoise(model(name), config=ALL[name], **of)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("rows", [1, 2, 3, ROWS])
def test_tokens_do_not_depend_on_the_number_of_slots(name: str, rows: int) -> None:
    of = model(name)
    passes, told = watch(of), {}

    def done(numbers: list[int], completions: torch.Tensor) -> None:
        assert not told.keys() & set(numbers)
        told.update(zip(numbers, completions, strict=True))

    output = denoise(of, config=ALL[name], slots=Slots(rows, on_rows=done), **case(3))
    copies = 2 if ALL[name].cfg_scale else 1
    assert max(passes) <= rows * copies
    assert sum(passes[1:]) == (output.row_passes - min(rows, 6)) * copies  # the first may merge
    assert len(passes) == output.forward_passes
    for row in range(ROWS):
        expected = alone(name, row, 3)
        assert torch.equal(output.completion_ids[row], expected.completion_ids[0])
        assert torch.equal(output.unmask_step[row], expected.unmask_step[0])
        assert torch.equal(told[row], output.completion_ids[row])


@pytest.mark.parametrize("name", ["blocks", "hot", "random", "guidance", "uneven"])
def test_tokens_are_those_of_the_published_loop(name: str) -> None:
    config, rows = CONFIGS[name], case(5)
    output = denoise(tiny(), config=config, slots=Slots(2), **rows)
    for row in range(ROWS):
        real = int(rows["prompt_mask"][row].sum())
        plain, _ = plain_denoise(
            tiny(),
            rows["prompt_ids"][row : row + 1, 6 - real :],
            16,
            config.block_length,
            config.steps,
            keyed_draws(rows["keys"][row : row + 1], 16),
            config.temperature,
            config.remasking,
            config.cfg_scale,
            hint_ids=rows["hint_ids"][row : row + 1],
        )
        assert torch.equal(output.completion_ids[row], plain[0])


def test_rows_go_block_by_block_longest_canvas_first_and_padding_is_left_out() -> None:
    """Prompts of 6, 2 and 1 tokens, one row a pass: canvases of 22, 18 and 17 positions."""
    of, widths = tiny(), []
    encode = of.encode

    def watched(ids: torch.Tensor, *args: Any, **named: Any) -> torch.Tensor:
        widths.append(ids.shape[1])
        return encode(ids, *args, **named)

    of.encode = watched  # type: ignore[method-assign]
    mask = torch.arange(6) >= torch.tensor([[5], [0], [4]])
    denoise(of, torch.full((3, 6), 9), BASE, prompt_mask=mask, slots=Slots(1))
    assert widths == ([22] * 4 + [18] * 4 + [17] * 4) * 2


def test_a_token_budget_takes_more_short_rows_than_long_ones() -> None:
    """Canvases of 22 and 17: with 40 positions a pass one long row, then two short ones."""
    of = tiny()
    passes = watch(of)
    mask = torch.arange(6) >= torch.tensor([[0], [5], [5]])
    prompts = torch.arange(9, 27).view(3, 6)  # all distinct: no pass is shared
    denoise(of, prompts, BASE, prompt_mask=mask, slots=Slots(8, tokens=40))
    assert passes == [1] * 4 + [2] * 4 + [1] * 4 + [2] * 4


@given(
    lengths=st.lists(st.integers(1, 50), max_size=30),
    at_work=st.lists(st.integers(1, 50), max_size=5),
    rows=st.none() | st.integers(1, 6),
    tokens=st.none() | st.integers(1, 200),
)
def test_as_many_rows_are_taken_as_fit(
    lengths: list[int], at_work: list[int], rows: int | None, tokens: int | None
) -> None:
    def fits(number: int) -> bool:
        together = at_work + lengths[:number]
        if tokens is not None:
            return len(together) == 1 or len(together) * max(together) <= tokens
        return rows is None or len(together) <= rows

    taken = Slots(rows, tokens).first(lengths, at_work)
    assert taken == 0 or fits(taken)
    assert taken == len(lengths) or not fits(taken + 1)


def test_hints_let_a_row_go_ahead_and_others_take_its_slot() -> None:
    """Blocks of 8 in 4 steps. A row with two masks a block takes 4 steps in all, two rows 8."""
    hints = torch.full((3, 16), -1)
    hints[0, 2:8] = hints[0, 10:] = 9
    rows = {"prompt_ids": torch.arange(9, 15).view(3, 2), "hint_ids": hints}
    output = denoise(tiny(), config=BASE, slots=Slots(2), **rows)
    assert output.row_passes == 4 + 8 + 8
    # Row 0 takes 2 steps of its block beside row 1, and row 2 follows: no slot is empty.
    assert output.forward_passes == 10
    assert output.slot_passes == 20


def test_a_pass_without_memory_is_tried_again_with_half_of_its_rows() -> None:
    of, halved = tiny(), []
    encode, calls = of.encode, []

    def failing(ids: torch.Tensor, *args: Any, **named: Any) -> torch.Tensor:
        calls.append(len(ids))
        if len(calls) == 3:
            raise torch.OutOfMemoryError
        return encode(ids, *args, **named)

    expected = denoise(tiny(), config=CONFIGS["hot"], **case(1))
    of.encode = failing  # type: ignore[method-assign]
    slots = Slots(4, on_memory=halved.append)
    output = denoise(of, config=CONFIGS["hot"], slots=slots, **case(1))
    assert halved == [4]
    assert max(calls[3:]) == 2
    assert torch.equal(output.completion_ids, expected.completion_ids)
    assert torch.equal(output.unmask_step, expected.unmask_step)
    of.encode, calls[:] = failing, [0, 0]  # type: ignore[method-assign]
    with pytest.raises(torch.OutOfMemoryError):
        denoise(of, config=CONFIGS["hot"], slots=Slots(4), **case(1))


def test_a_row_that_ends_gives_its_slot_away() -> None:
    """Many rows on 4 slots: passes are fewer than in batches of 4, which wait for the longest."""
    config = replace(BASE, block_length=4, steps=16, temperature=1.5, stop_after_eos=True)
    of = allowing(tiny(), set(range(8)))
    rows = {
        "prompt_ids": torch.randint(3, 61, (32, 4), generator=torch.Generator().manual_seed(0)),
        "keys": row_keys(list(range(32))),
    }
    full = denoise(of, config=config, slots=Slots(4), **rows)
    batches = [
        denoise(of, config=config, **{key: v[i : i + 4] for key, v in rows.items()})
        for i in range(0, 32, 4)
    ]
    assert torch.equal(full.completion_ids, torch.cat([b.completion_ids for b in batches]))
    assert (full.completion_ids == EOS).any()
    assert full.row_passes == sum(b.row_passes for b in batches)
    assert full.forward_passes < 0.9 * sum(b.forward_passes for b in batches)
    assert full.row_passes > 0.9 * full.slot_passes
