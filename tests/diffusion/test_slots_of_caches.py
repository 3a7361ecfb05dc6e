"""Full slots where rows keep keys and values, or grow: tokens and work against static batches."""

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sampler_cases import BASE, EOS, tiny

from igpo_lightning.diffusion.noise import row_keys
from igpo_lightning.diffusion.sampler import DenoiseOutput, Slots, denoise
from igpo_lightning.models.backbone import Backbone
from igpo_lightning.settings import SamplerConfig
from tests.small_backbones import build_native

ROWS = 9
ENDING = replace(BASE, block_length=4, steps=16, temperature=1.2, stop_after_eos=True)
PARALLEL: dict[str, Any] = {"confidence_threshold": 0.25}
KEPT: dict[str, dict[str, Any]] = {
    "ending": {},
    "guidance": {"cfg_scale": 1.0},
    "threshold": PARALLEL,
    "remask": {"remask": 0.4},
    "refresh": {"cache_refresh": 3, **PARALLEL},
    "two_blocks": {"cache_blocks": 2, **PARALLEL},
    "four_blocks": {"cache_blocks": 4},
}
CACHED = {
    f"{name}-{cache}": replace(ENDING, cache=cache, **options)
    for name, options in KEPT.items()
    for cache in ("prefix", "dual")
}
GROWING = {
    f"growing-{name}-{cache}-{ahead}": replace(
        ENDING, cache=cache, canvas="growing", hints_ahead=ahead, **KEPT[name]
    )
    for name in ("ending", "threshold")
    for cache in ("none", "prefix", "dual")
    for ahead in ("visible", "waiting")
}
THINKING = {"thinking": replace(ENDING, think_ids=(4, 5))}
FULL = CACHED | GROWING | THINKING
BLOCK_CAUSAL = {
    "static": SamplerConfig(12, 3, 12, temperature=1.2, stop_after_eos=True),
    "threshold": SamplerConfig(
        12, 3, 12, temperature=1.0, confidence_threshold=0.1, stop_after_eos=True
    ),
    "parts": SamplerConfig(12, 1, 12, temperature=1.0, cache="dual", stop_after_eos=True),
    "edits": SamplerConfig(12, 3, 12, temperature=1.0, edit_threshold=0.1, stop_after_eos=True),
}
MODELS = {name: build_native(name) for name in ("sdar", "fast_dllm_v2", "llada2")}


def case(length: int, rows: int = ROWS) -> dict[str, torch.Tensor]:
    """Prompts of 1 to 6 tokens; hints fill some blocks, some rows, and stand here and there."""
    drawn = torch.Generator().manual_seed(1)
    ids = torch.randint(3, 40, (rows, 6), generator=drawn)
    mask = torch.arange(6) >= torch.randint(0, 6, (rows, 1), generator=drawn)
    hints = torch.randint(3, 40, (rows, length), generator=drawn)
    hints[torch.rand(rows, length, generator=drawn) < 0.8] = -1
    hints[0] = -1
    hints[2, 4:8], hints[3, :4], hints[4], hints[5, 8:] = 7, 6, 9, 8
    return {
        "prompt_ids": ids.masked_fill(~mask, 2),
        "prompt_mask": mask,
        "hint_ids": hints,
        "keys": row_keys(list(range(rows))),
    }


def part(of: dict[str, torch.Tensor], rows: slice) -> dict[str, torch.Tensor]:
    """Some rows, without the padding that all of them have."""
    cut = {name: values[rows] for name, values in of.items()}
    padding = int((~cut["prompt_mask"]).sum(dim=1).min())
    return cut | {name: cut[name][:, padding:] for name in ("prompt_ids", "prompt_mask")}


def writing_eos(model: Any = None, tokens: int = 8) -> Any:
    """A model of few tokens, so that many rows end early."""
    model = model or tiny()
    project = model.project
    # Not infinity: guidance subtracts logits.
    model.project = lambda hidden: project(hidden).index_fill(
        -1, torch.arange(tokens, model.vocab_size), -100.0
    )
    return model


def run(
    model: Backbone, config: SamplerConfig, rows: dict[str, torch.Tensor], slots: Slots
) -> DenoiseOutput:
    """What denoise makes, and every row told of once."""
    told: dict[int, torch.Tensor] = {}

    def done(numbers: list[int], completions: torch.Tensor) -> None:
        assert not told.keys() & set(numbers)
        told.update(zip(numbers, completions, strict=True))

    output = denoise(model, config=config, slots=replace(slots, on_rows=done), **rows)
    assert len(told) == len(output.completion_ids)
    for row, completion in told.items():
        assert torch.equal(completion, output.completion_ids[row])
    return output


def assert_rows_alone(
    model: Backbone, config: SamplerConfig, rows: dict[str, torch.Tensor], output: DenoiseOutput
) -> None:
    assert_same(output, rows_alone(model, config, rows))


def rows_alone(
    model: Backbone, config: SamplerConfig, rows: dict[str, torch.Tensor]
) -> list[DenoiseOutput]:
    count = len(rows["prompt_ids"])
    return [
        denoise(model, config=config, **part(rows, slice(row, row + 1))) for row in range(count)
    ]


def assert_same(output: DenoiseOutput, alone: list[DenoiseOutput]) -> None:
    assert len(output.completion_ids) == len(alone)
    for row, expected in enumerate(alone):
        assert torch.equal(output.completion_ids[row], expected.completion_ids[0])
        assert torch.equal(output.unmask_step[row], expected.unmask_step[0])


@cache  # several tests compare with them
def full_alone(name: str) -> list[DenoiseOutput]:
    return rows_alone(writing_eos(), FULL[name], case(16))


@cache
def block_causal_alone(model: str, name: str) -> list[DenoiseOutput]:
    return rows_alone(MODELS[model], BLOCK_CAUSAL[name], case(12))


LONG = pytest.mark.slow  # more of the same


@pytest.mark.parametrize("rows", [4, pytest.param(1, marks=LONG)])
@pytest.mark.parametrize("name", FULL)
def test_tokens_do_not_depend_on_the_number_of_slots(name: str, rows: int) -> None:
    output = run(writing_eos(), FULL[name], case(16), Slots(rows))
    assert_same(output, full_alone(name))


@LONG
@pytest.mark.parametrize("name", FULL)
def test_a_token_budget_changes_no_token(name: str) -> None:
    output = run(writing_eos(), FULL[name], case(16), Slots(2, tokens=70))
    assert_same(output, full_alone(name))


@settings(max_examples=30, deadline=None)
@given(
    name=st.sampled_from(sorted(FULL)),
    slots=st.integers(1, 5),
    budget=st.none() | st.integers(20, 90),
    rows=st.lists(
        st.tuples(st.integers(1, 6), st.lists(st.integers(0, 15), max_size=10)),
        min_size=2,
        max_size=8,
    ),
)
def test_rows_of_any_lengths_and_hints_are_those_of_the_row_alone(
    name: str, slots: int, budget: int | None, rows: list[tuple[int, list[int]]]
) -> None:
    """Rows by their prompt's length and the places of their hints."""
    of = {name: values[: len(rows)] for name, values in case(16).items()}
    of["hint_ids"][:] = -1
    for row, (length, places) in enumerate(rows):
        of["prompt_mask"][row] = torch.arange(6) >= 6 - length
        of["hint_ids"][row, places] = 3 + row
    output = run(writing_eos(), FULL[name], of, Slots(slots, budget))
    assert_rows_alone(writing_eos(), FULL[name], of, output)


@pytest.mark.parametrize("rows", [4, pytest.param(1, marks=LONG)])
@pytest.mark.parametrize("name", BLOCK_CAUSAL)
@pytest.mark.parametrize("model", MODELS)
def test_block_causal_tokens_do_not_depend_on_them_either(model: str, name: str, rows: int) -> None:
    if name == "edits" and model == "fast_dllm_v2":
        name = "static"  # its blocks are not edited
    output = run(MODELS[model], BLOCK_CAUSAL[name], case(12), Slots(rows))
    assert_same(output, block_causal_alone(model, name))


def failing(model: Any, after: int) -> Any:
    """The model, of which one pass of several rows finds too little memory once it has run."""
    encode, left = model.encode, [after]

    def encoded(ids: torch.Tensor, *args: Any, **named: Any) -> torch.Tensor:
        hidden: torch.Tensor = encode(ids, *args, **named)
        left[0] -= 1
        if left[0] <= 0 and len(ids) > 2:
            left[0] = 10_000
            raise torch.OutOfMemoryError
        return hidden

    model.encode = encoded
    return model


@pytest.mark.parametrize("after", [2, *(pytest.param(n, marks=LONG) for n in (1, 5))])
@pytest.mark.parametrize("name", FULL)
def test_rows_without_memory_start_again_and_end_the_same(name: str, after: int) -> None:
    halved: list[int] = []
    slots = Slots(4, on_memory=halved.append)
    output = run(failing(writing_eos(), after), FULL[name], case(16), slots)
    assert len(halved) == 1
    assert_same(output, full_alone(name))


@pytest.mark.parametrize("after", [2, *(pytest.param(n, marks=LONG) for n in (1, 5))])
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", ["static", "parts"])
def test_so_do_block_causal_ones(model: str, name: str, after: int) -> None:
    halved: list[int] = []
    slots = Slots(4, on_memory=halved.append)
    output = run(failing(build_native(model), after), BLOCK_CAUSAL[name], case(12), slots)
    assert len(halved) == 1
    assert_same(output, block_causal_alone(model, name))


def static(
    model: Backbone, config: SamplerConfig, rows: dict[str, torch.Tensor], size: int
) -> list[DenoiseOutput]:
    """Batches of rows of similar length, each of which waits for its longest row."""
    order = rows["prompt_mask"].sum(dim=1).argsort(stable=True)
    rows = {name: values[order] for name, values in rows.items()}
    parts = [slice(at, at + size) for at in range(0, len(order), size)]
    return [denoise(model, config=config, **part(rows, rows_of)) for rows_of in parts]


def without_hints(length: int, prompts: str) -> dict[str, torch.Tensor]:
    """48 rows, with prompts of one length or of several."""
    rows = case(length, 48)
    rows["hint_ids"][:] = -1
    if prompts == "equal":
        rows["prompt_mask"][:] = True
    return rows


# Of prompts of several lengths, whose bound is the looser one, a case of each kind.
OF_ITS_KIND = (
    *("ending-prefix", "threshold-dual", "guidance-dual", "four_blocks-prefix", "thinking"),
    *("growing-ending-none-waiting", "growing-threshold-dual-waiting"),
)
WAITING = [name for name in FULL if not name.endswith("visible")]


@pytest.mark.parametrize(
    ("name", "prompts"),
    [(name, "equal") for name in WAITING]
    + [
        pytest.param(name, "unequal", marks=() if name in OF_ITS_KIND else LONG) for name in WAITING
    ],
)
def test_full_attention_takes_fewer_passes_and_no_more_tokens(name: str, prompts: str) -> None:
    """48 rows on 8 slots. A pass of rows from several batches has more padding, up to 5 %.

    On a canvas that grows rows at different blocks are padded to the longest, up to 2 %.
    """
    rows = without_hints(16, prompts)
    batches = static(writing_eos(), FULL[name], rows, 8)
    full = run(writing_eos(), FULL[name], rows, Slots(8))
    assert (full.completion_ids == EOS).any()
    passes, tokens = (
        sum(getattr(batch, of) for batch in batches) for of in ("forward_passes", "body_tokens")
    )
    assert full.forward_passes <= passes
    equal = 1.02 if FULL[name].canvas == "growing" else 1
    assert full.body_tokens <= tokens * (equal if prompts == "equal" else 1.05)
    if FULL[name].cache_blocks == 1:
        assert full.forward_passes < 0.9 * passes
        assert full.row_passes == sum(batch.row_passes for batch in batches)


@pytest.mark.parametrize("prompts", ["equal", "unequal"])
def test_so_does_block_causal_attention(prompts: str) -> None:
    """8 blocks of 3 passes and a clean one; prompts of rows that join are a pass of their own."""
    rows = without_hints(24, prompts)
    model = writing_eos(build_native("sdar"), tokens=5)
    config = replace(BLOCK_CAUSAL["static"], completion_length=24, steps=24)
    batches = static(model, config, rows, 8)
    full = run(model, config, rows, Slots(8))
    assert (full.completion_ids == model.eos_token_id).any()
    assert full.forward_passes < sum(batch.forward_passes for batch in batches)
    assert full.row_passes == sum(batch.row_passes for batch in batches)
    assert full.body_tokens <= 1.05 * sum(batch.body_tokens for batch in batches)


@pytest.mark.parametrize("model", MODELS)
def test_block_causal_samples_of_a_group_run_their_prompt_once(model: str) -> None:
    """Two prompts of 6 tokens, 4 samples of each: blocks before the first are run for 2 rows."""
    of, rows, run_rows = build_native(model), without_hints(12, "equal"), []
    rows = {name: values[[0] * 4 + [1] * 4] for name, values in rows.items()}
    rows["keys"] = row_keys(list(range(8)))
    encode = of.encode

    def watched(ids: torch.Tensor, *args: Any, **named: Any) -> torch.Tensor:
        run_rows.append(len(ids))
        return encode(ids, *args, **named)

    of.encode = watched  # type: ignore[method-assign]
    output = run(of, BLOCK_CAUSAL["static"], rows, Slots(8))
    assert run_rows[0] == 2
    assert max(run_rows) == 8
    assert output.row_passes == 8 + sum(run_rows[1:])
    assert_rows_alone(MODELS[model], BLOCK_CAUSAL["static"], rows, output)
