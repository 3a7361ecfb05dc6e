"""Sequences of the public LLaDA and Fast-dLLM samplers, token for token."""

import re
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
GOLDEN = Path(__file__).resolve().parents[3] / "shared" / "golden"


def recorded(file: str) -> list[tuple[str, str]]:
    """(folder, key) of every sequence in the files of this name; none without the folder."""
    return [
        (path.parent.name, key)
        for path in sorted(GOLDEN.glob(f"*/{file}.safetensors"))
        for key in load_file(path)
        if re.search(r"block\d", key) and not key.endswith("_nfe")
    ]


def settings_of(key: str, length: int) -> SamplerConfig:
    """What a name like steps16_block8_cfg1 or prefix_threshold0.2_block16 says."""
    numbers = dict(re.findall(r"(steps|block|cfg|threshold)([0-9.]+)", key))
    threshold = numbers.get("threshold")
    return SamplerConfig(
        length,
        int(numbers["block"]),
        int(numbers.get("steps", length)),
        cfg_scale=float(numbers.get("cfg", 0)),
        confidence_threshold=None if threshold is None else float(threshold),
    )


@pytest.mark.parametrize(("name", "key"), recorded("sampler"))
def test_plain_sequences(shared_golden: Path, name: str, key: str) -> None:
    model = load_backbone(str(shared_golden / name))
    golden = load_file(shared_golden / name / "sampler.safetensors")
    prompts = golden["prompts"]
    expected = golden[key][:, prompts.shape[1] :]
    config = settings_of(key, expected.shape[1])
    output = denoise(model, prompts, config)
    assert torch.equal(output.completion_ids, expected)
    assert output.forward_passes == config.steps
    draws = keyed_draws(row_keys([0] * len(prompts)), expected.shape[1])  # read at a temperature
    sizes = (config.completion_length, config.block_length, config.steps)
    ids, steps_run = plain_denoise(model, prompts, *sizes, draws, cfg_scale=config.cfg_scale)
    assert torch.equal(ids, output.completion_ids)
    assert steps_run == config.steps


@pytest.mark.parametrize(("name", "key"), recorded("inpaint"))
def test_inpainted_sequences(shared_golden: Path, name: str, key: str) -> None:
    model = load_backbone(str(shared_golden / name))
    golden = load_file(shared_golden / name / "inpaint.safetensors")
    expected = golden[key][:, golden["prompts"].shape[1] :]
    config = settings_of(key, expected.shape[1])
    output = denoise(model, golden["prompts"], config, hint_ids=golden["hint"])
    assert torch.equal(output.completion_ids, expected)
    assert torch.equal(output.hint_mask, golden["hint"] != -1)


@pytest.mark.parametrize(("name", "key"), recorded("cached_sampler"))
def test_cached_sequences_and_their_forward_passes(
    shared_golden: Path, name: str, key: str
) -> None:
    """One row at a time, as they were made, and all rows in one batch."""
    model = load_backbone(str(shared_golden / name))
    golden = load_file(shared_golden / name / "cached_sampler.safetensors")
    prompts, passes = golden["prompts"], golden[f"{key}_nfe"]
    expected = golden[key][:, prompts.shape[1] :]
    kind = key.partition("_")[0]
    config = settings_of(key, expected.shape[1])
    config = replace(config, cache="none" if kind == "exact" else kind)
    for row in range(len(prompts)):
        output = denoise(model, prompts[row : row + 1], config)
        assert torch.equal(output.completion_ids[0], expected[row])
        assert output.forward_passes == passes[row]
    both = denoise(model, prompts, config)
    assert torch.equal(both.completion_ids, expected)
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
