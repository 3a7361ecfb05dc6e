"""What a row may not depend on: its batch, padding, a cache that others share, EOS of others."""

from dataclasses import replace

import pytest
import torch
from sampler_cases import BASE, CONFIGS, EOS, MASK, allowing, problem, tiny

from igpo_lightning.diffusion.sampler import denoise
from igpo_lightning.models.tiny import TinyBackbone
from igpo_lightning.settings import SamplerConfig


@pytest.mark.parametrize("name", ["hot", "random", "guidance", "threshold", "top_p"])
def test_a_row_does_not_depend_on_its_batch_or_padding(model: TinyBackbone, name: str) -> None:
    case = problem(7, batch=4, length=16)
    together = denoise(model, config=CONFIGS[name], **case)
    for row in range(4):
        real = int(case["prompt_mask"][row].sum())
        alone = denoise(
            model,
            case["prompt_ids"][row : row + 1, 6 - real :],
            CONFIGS[name],
            hint_ids=case["hint_ids"][row : row + 1],
            keys=case["keys"][row : row + 1],
        )
        assert torch.equal(alone.completion_ids[0], together.completion_ids[row])
        assert torch.equal(alone.unmask_step[0], together.unmask_step[row])


@pytest.mark.parametrize("cache", ["prefix", "dual"])
@pytest.mark.parametrize("name", ["hot", "guidance", "threshold", "remask"])
def test_cached_rows_do_not_depend_on_their_batch(
    model: TinyBackbone, cache: str, name: str
) -> None:
    """Rows need different numbers of steps, and refresh their cache at their own."""
    extra = {"remask": replace(BASE, remask=0.4)}
    config = replace((CONFIGS | extra)[name], cache=cache, cache_refresh=3)
    case = problem(11, batch=4, length=16)
    together = denoise(model, config=config, **case)
    for row in range(4):
        alone = denoise(
            model, config=config, **{key: value[row : row + 1] for key, value in case.items()}
        )
        assert torch.equal(alone.completion_ids[0], together.completion_ids[row])


@pytest.mark.parametrize("cache", ["prefix", "dual"])
@pytest.mark.parametrize("name", ["hot", "guidance", "threshold", "remask"])
@pytest.mark.parametrize("blocks", [2, 4])
def test_rows_with_a_cache_over_blocks_do_not_depend_on_their_batch(
    model: TinyBackbone, cache: str, name: str, blocks: int
) -> None:
    extra = {"remask": replace(BASE, remask=0.4)}
    config = replace(
        (CONFIGS | extra)[name],
        block_length=4,
        steps=16,
        cache=cache,
        cache_blocks=blocks,
        stop_after_eos=True,
    )
    case = problem(11, batch=4, length=16)
    case["hint_ids"][1, 4:8], case["hint_ids"][2, 8:] = 7, 7  # blocks with nothing to fill
    together = denoise(model, config=config, **case)
    assert not (together.completion_ids == MASK).any()
    for row in range(4):
        alone = denoise(
            model, config=config, **{key: value[row : row + 1] for key, value in case.items()}
        )
        assert torch.equal(alone.completion_ids[0], together.completion_ids[row])


def test_a_cache_over_blocks_makes_one_full_pass(model: TinyBackbone) -> None:
    """Canvas 22, 4 blocks of 4 in 2 steps: 22 + 4, then three times a window of 8 and one of 4."""
    case = problem(0, batch=2, length=16) | {"hint_ids": torch.full((2, 16), -1)}
    config = SamplerConfig(16, 4, 8, cache="dual", cache_blocks=4)
    output = denoise(model, config=config, **case)
    assert output.forward_passes == 8
    assert output.body_tokens == 2 * (22 + 4 + 3 * (8 + 4))


@pytest.mark.parametrize("cache", ["prefix", "dual"])
def test_a_cache_that_is_renewed_every_step_is_exact(model: TinyBackbone, cache: str) -> None:
    case = problem(3, batch=3, length=16)
    exact = denoise(model, config=BASE, **case)
    renewed = denoise(model, config=replace(BASE, cache=cache, cache_refresh=1), **case)
    assert torch.equal(renewed.completion_ids, exact.completion_ids)
    assert renewed.cached_share == 0


def test_stopping_after_eos_changes_nothing_that_counts() -> None:
    """Some rows end early; up to their first EOS they are as before, and EOS fills the rest."""
    model, ended = allowing(tiny(), set(range(8))), 0  # so that EOS is likely
    for seed in range(6):
        case = problem(seed, batch=4, length=32) | {"hint_ids": torch.full((4, 32), -1)}
        case["hint_ids"][1, 20:24] = 9
        config = SamplerConfig(32, 8, 16, temperature=1.5)
        whole = denoise(model, config=config, **case)
        short = denoise(model, config=replace(config, stop_after_eos=True), **case)
        for row in range(4):
            is_eos = (whole.completion_ids[row] == EOS).nonzero().flatten().tolist()
            live = is_eos[0] + 1 if is_eos else 32
            assert torch.equal(whole.completion_ids[row, :live], short.completion_ids[row, :live])
            block_end = -(-live // 8) * 8
            rest = short.completion_ids[row, block_end:]
            free = case["hint_ids"][row, block_end:] == -1
            assert (rest[free] == EOS).all()
            assert torch.equal(
                short.completion_ids[row][case["hint_ids"][row] != -1],
                case["hint_ids"][row][case["hint_ids"][row] != -1],
            )
            ended += block_end < 32
        assert short.body_tokens <= whole.body_tokens
    assert ended > 3  # the case does occur
