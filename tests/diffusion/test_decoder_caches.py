"""Decoders of the native family sample over prefix and dual caches, shifted or not."""

from dataclasses import replace

import pytest
import torch
from sampler_cases import BASE, problem

from igpo_lightning.diffusion.sampler import Slots, denoise
from igpo_lightning.models.attention import Heads
from igpo_lightning.models.decoder import DecoderBackbone, DecoderConfig
from igpo_lightning.models.special_tokens import TokenIds


def decoder(shifted: bool) -> DecoderBackbone:
    """Qwen2's layout with full attention, as A2D models have it; Dream's where it is shifted."""
    config = DecoderConfig(
        width=32,
        inner=48,
        depth=2,
        heads=Heads(4, 2, 8),
        vocab_size=61,
        norm_eps=1e-6,
        rope_theta=10_000.0,
        tied=False,
        qkv_bias=True,
        shifted=shifted,
        initializer_std=0.3,
    )
    made = DecoderBackbone(config, TokenIds(mask=0, eos=1, pad=2), {})
    made.initialize(torch.Generator().manual_seed(0))
    return made.eval()


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("cache", ["prefix", "dual"])
def test_a_cache_that_is_renewed_in_every_step_gives_the_exact_tokens(
    cache: str, shifted: bool
) -> None:
    model, config = decoder(shifted), replace(BASE, temperature=0.8)
    exact = denoise(model, config=config, **problem(3, 4, 16))
    renewed = denoise(
        model, config=replace(config, cache=cache, cache_refresh=1), **problem(3, 4, 16)
    )
    assert torch.equal(renewed.completion_ids, exact.completion_ids)


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("cache", ["prefix", "dual"])
@pytest.mark.parametrize("slots", [2, 4])
def test_a_cache_spares_most_of_the_work_and_depends_on_no_other_row(
    slots: int, cache: str, shifted: bool
) -> None:
    model, config = decoder(shifted), replace(BASE, temperature=0.8, cache=cache)
    case = problem(3, 4, 16)
    output = denoise(model, config=config, slots=Slots(slots), **case)
    assert output.cached_share > 0.25
    for row in range(4):
        alone = denoise(model, config=config, **{k: v[row : row + 1] for k, v in case.items()})
        assert torch.equal(alone.completion_ids[0], output.completion_ids[row])
