"""What a call costs, counted: passes, positions of the body and of the head."""

from dataclasses import replace

import pytest
import torch
from sampler_cases import BASE, CONFIGS, VOCAB, problem, tiny

from igpo_lightning.diffusion.canvas import Canvas
from igpo_lightning.diffusion.course import Step
from igpo_lightning.diffusion.noise import row_keys
from igpo_lightning.diffusion.sampler import denoise
from igpo_lightning.diffusion.step import run_step
from igpo_lightning.diffusion.work import Work
from igpo_lightning.models.tiny import TinyBackbone
from igpo_lightning.settings import SamplerConfig


def test_head_positions_are_the_masked_ones_of_the_block(model: TinyBackbone) -> None:
    """Blocks of 8 in 4 steps, 2 tokens each: 8 + 6 + 4 + 2 = 20 a block, 2 blocks, 3 rows."""
    case = problem(0, batch=3, length=16) | {"hint_ids": torch.full((3, 16), -1)}
    output = denoise(model, config=BASE, **case)
    assert output.forward_passes == 8
    assert output.head_positions == 3 * 2 * 20
    assert output.body_tokens == output.canvas_tokens == 3 * 8 * (6 + 16)


WIDE = SamplerConfig(32, 16, 8)
WIDE_CONFIGS = {
    "blocks": WIDE,
    "hot": replace(WIDE, temperature=1.5),
    "guidance": replace(WIDE, cfg_scale=1.5),
    "threshold": replace(WIDE, confidence_threshold=0.3),
    "dual": replace(WIDE, cache="dual"),
}


def test_the_last_layer_runs_at_masked_positions() -> None:
    """Blocks of 16 in 4 steps, 4 tokens each: 16, 12 and 8 states; then 8, the fewest, not 4."""
    model, run = tiny(), []
    model.layers[-1].down.register_forward_pre_hook(lambda _, args: run.append(args[0].shape[1]))
    denoise(model, config=WIDE, **problem(9, 3, 32) | {"hint_ids": torch.full((3, 32), -1)})
    assert run == [16, 12, 8, 8] * 2


@pytest.mark.parametrize("name", WIDE_CONFIGS)
@pytest.mark.parametrize("equal_prompts", [False, True])
def test_a_model_that_returns_whole_blocks_gives_the_same(name: str, equal_prompts: bool) -> None:
    """Rows with different hints; or equal rows, whose first pass is shared."""
    model, case = tiny(), problem(9, batch=3, length=32)
    if equal_prompts:
        case["hint_ids"] = torch.full((3, 32), -1)
        for part in ("prompt_ids", "prompt_mask"):
            case[part] = case[part][:1].expand(3, 6)
    chosen = denoise(model, config=WIDE_CONFIGS[name], **case)
    model.supports_positions = False
    whole = denoise(model, config=WIDE_CONFIGS[name], **case)
    assert torch.equal(chosen.completion_ids, whole.completion_ids)
    assert torch.equal(chosen.unmask_step, whole.unmask_step)


def test_blocks_that_hints_fill_cost_nothing(model: TinyBackbone) -> None:
    """Row 0 needs both blocks, row 1 the second, row 2 none."""
    hints = torch.full((3, 16), -1)
    hints[1, :8], hints[2] = 7, 9
    case = problem(0, batch=3, length=16) | {"hint_ids": hints, "prompt_mask": None}
    output = denoise(model, config=BASE, **case)
    assert output.forward_passes == 8
    assert output.canvas_tokens == (4 * 1 + 4 * 2) * 22
    assert torch.equal(output.completion_ids[2], hints[2])
    full = denoise(model, config=BASE, **(case | {"hint_ids": torch.full((3, 16), 5)}))
    assert full.forward_passes == full.head_positions == 0


def test_rows_leave_a_block_when_its_schedule_is_done(model: TinyBackbone) -> None:
    """One masked token of a block of 4 steps: 1 step for that row, 4 for the other."""
    hints = torch.full((2, 8), -1)
    hints[1, 1:] = 7
    case = problem(0, batch=2, length=8) | {"hint_ids": hints, "prompt_mask": None}
    output = denoise(model, config=SamplerConfig(8, 8, 4), **case)
    assert output.forward_passes == 4
    assert output.canvas_tokens == (4 + 1) * (6 + 8)


@pytest.mark.parametrize(("cache", "windows"), [("prefix", 3 * 16 + 3 * 8), ("dual", 6 * 8)])
def test_caches_run_the_window_alone(model: TinyBackbone, cache: str, windows: int) -> None:
    """Each of 2 blocks: a full pass of 22 positions, then 3 of the window."""
    case = problem(0, batch=2, length=16) | {"hint_ids": torch.full((2, 16), -1)}
    output = denoise(model, config=replace(BASE, cache=cache), **case)
    assert output.forward_passes == 8
    assert output.body_tokens == 2 * (2 * 22 + windows)
    assert output.cached_share == pytest.approx(1 - (44 + windows) / (8 * 22))
    refreshed = denoise(model, config=replace(BASE, cache=cache, cache_refresh=2), **case)
    assert refreshed.cached_share < output.cached_share


def test_equal_prompts_share_their_first_pass(model: TinyBackbone) -> None:
    """A group of 4 samples of one prompt: the first of 8 passes is one row."""
    prompts = torch.randint(3, VOCAB, (1, 6), generator=torch.Generator().manual_seed(0))
    keys = row_keys([1, 2, 3, 4])
    config = replace(BASE, temperature=1.0)
    together = denoise(model, prompts.expand(4, 6), config, keys=keys)
    assert together.canvas_tokens - together.body_tokens == 3 * 22
    for row in range(4):
        alone = denoise(model, prompts, config, keys=keys[row : row + 1])
        assert torch.equal(alone.completion_ids[0], together.completion_ids[row])
    for cache in ("prefix", "dual"):
        cached = replace(config, cache=cache, cfg_scale=0.5)
        together = denoise(model, prompts.expand(4, 6), cached, keys=keys)
        alone = denoise(model, prompts, cached, keys=keys[2:3])
        assert torch.equal(alone.completion_ids[0], together.completion_ids[2])


def test_guidance_counts_both_of_its_rows(model: TinyBackbone) -> None:
    case = problem(0, batch=2, length=16) | {"hint_ids": torch.full((2, 16), -1)}
    plain_work = denoise(model, config=BASE, **case)
    guided = denoise(model, config=replace(BASE, cfg_scale=1.0), **case)
    assert guided.forward_passes == plain_work.forward_passes
    assert guided.body_tokens == 2 * plain_work.body_tokens
    assert guided.head_positions == 2 * plain_work.head_positions


# ---- never waiting for the device ------------------------------------------------------------

STEPPED = ("blocks", "hot", "random", "entropy", "top_p", "guidance", "threshold")


@pytest.mark.parametrize("cache", ["none", "dual"])
@pytest.mark.parametrize("name", STEPPED)
def test_a_step_reads_no_value_back(monkeypatch: pytest.MonkeyPatch, name: str, cache: str) -> None:
    """A call's steps again, on tensors that have shapes and no values: reading one would raise.

    What a GPU would have to be waited for is what cannot be done without values. That rows have
    their first pass, which looks for equal ones, is left out.
    """
    steps: list[tuple[Canvas, Step]] = []

    def recorded(canvas: Canvas, step: Step) -> None:
        steps.append((canvas, step))
        run_step(canvas, step)

    monkeypatch.setattr("igpo_lightning.diffusion.slots.run_step", recorded)
    config = replace(CONFIGS[name], cache=cache)
    expected = denoise(tiny(), config=config, **problem(3, 3, 16))

    monkeypatch.setattr(torch, "is_autocast_enabled", lambda _: False)  # knows no device "meta"
    canvas, model = steps[0][0], tiny().to("meta")
    passes = replace(canvas.passes, model=model, body=model.encode, work=Work(forward_passes=1))
    valueless = {
        field: value.to("meta") for field, value in vars(canvas).items() if torch.is_tensor(value)
    }
    mask = passes.attention_mask
    passes = replace(passes, attention_mask=None if mask is None else mask.to("meta"))
    again = replace(canvas, passes=passes, **valueless)
    with torch.no_grad():
        for _, step in steps:
            run_step(again, replace(step, first=False))
    assert passes.work.forward_passes == 1 + expected.forward_passes
    with pytest.raises(RuntimeError, match="meta"):
        bool(again.free.any())
