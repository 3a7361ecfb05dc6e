"""Sequences of the public LLaDA and Fast-dLLM samplers, token for token."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from igpo_lightning.diffusion.noise import row_keys
from igpo_lightning.diffusion.plain import keyed_draws, plain_denoise
from igpo_lightning.diffusion.sampler import denoise
from igpo_lightning.models import load_backbone
from igpo_lightning.settings import SamplerConfig

pytestmark = pytest.mark.shared
MODELS = ["llada_mha", "llada_gqa"]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    ("key", "steps", "block", "guidance"),
    [
        ("steps32_block32", 32, 32, 0.0),
        ("steps16_block8", 16, 8, 0.0),
        ("steps12_block16_uneven", 12, 16, 0.0),
        ("steps32_block16_cfg1", 32, 16, 1.0),
    ],
)
def test_plain_sequences(
    shared_golden: Path, name: str, key: str, steps: int, block: int, guidance: float
) -> None:
    model = load_backbone(str(shared_golden / name))
    golden = load_file(shared_golden / name / "sampler.safetensors")
    config = SamplerConfig(32, block, steps, cfg_scale=guidance)
    output = denoise(model, golden["prompts"], config)
    assert torch.equal(output.completion_ids, golden[key][:, 12:])
    assert output.forward_passes == steps
    draws = keyed_draws(row_keys([0] * len(golden["prompts"])), 32)  # read at a temperature alone
    ids, steps_run = plain_denoise(
        model, golden["prompts"], 32, block, steps, draws, cfg_scale=guidance
    )
    assert torch.equal(ids, output.completion_ids)
    assert steps_run == steps


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    ("key", "steps", "block"), [("steps32_block32", 32, 32), ("steps16_block8", 16, 8)]
)
def test_inpainted_sequences(
    shared_golden: Path, name: str, key: str, steps: int, block: int
) -> None:
    model = load_backbone(str(shared_golden / name))
    golden = load_file(shared_golden / name / "inpaint.safetensors")
    config = SamplerConfig(32, block, steps)
    output = denoise(model, golden["prompts"], config, hint_ids=golden["hint"])
    assert torch.equal(output.completion_ids, golden[key][:, 12:])
    assert torch.equal(output.hint_mask, golden["hint"] != -1)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    ("kind", "cache"), [("exact", "none"), ("prefix", "prefix"), ("dual", "dual")]
)
@pytest.mark.parametrize(
    ("key", "config"),
    [
        ("steps32_block8", SamplerConfig(32, 8, 32)),
        ("threshold0.2_block16", SamplerConfig(32, 16, 32, confidence_threshold=0.2)),
    ],
)
def test_cached_sequences_and_their_forward_passes(
    shared_golden: Path, name: str, kind: str, cache: str, key: str, config: SamplerConfig
) -> None:
    """One row at a time, as they were made, and both rows in one batch."""
    model = load_backbone(str(shared_golden / name))
    golden = load_file(shared_golden / name / "cached_sampler.safetensors")
    config = replace(config, cache=cache)
    expected, passes = golden[f"{kind}_{key}"], golden[f"{kind}_{key}_nfe"]
    for row in range(2):
        output = denoise(model, golden["prompts"][row : row + 1], config)
        assert torch.equal(output.completion_ids[0], expected[row, 12:])
        assert output.forward_passes == passes[row]
    both = denoise(model, golden["prompts"], config)
    assert torch.equal(both.completion_ids, expected[:, 12:])
    # A block takes as many passes as its slowest row.
    assert both.forward_passes >= passes.max()


@pytest.mark.parametrize("cache", ["prefix", "dual"])
def test_a_shifted_checkpoint_is_sampled_like_any_other(shared_golden: Path, cache: str) -> None:
    """Dream: windows of the cache start one place early; renewed every step, they are exact."""
    model = load_backbone(str(shared_golden / "dream"))
    prompts = torch.arange(24).view(2, 12) + 3
    exact = denoise(model, prompts, SamplerConfig(16, 8, 8))
    renewed = denoise(model, prompts, SamplerConfig(16, 8, 8, cache=cache, cache_refresh=1))
    assert torch.equal(renewed.completion_ids, exact.completion_ids)
    kept = denoise(model, prompts, SamplerConfig(16, 8, 8, cache=cache))
    assert kept.forward_passes == 8
    assert not (kept.completion_ids == model.mask_token_id).any()
