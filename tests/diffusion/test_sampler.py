"""The denoising loop against the published algorithm written plainly, and its invariants."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from benchmarks.plain_sampler import plain_denoise
from igpo_lightning.diffusion.noise import fold, gumbel, row_keys, uniform
from igpo_lightning.diffusion.sampler import SamplerConfig, denoise
from igpo_lightning.models.tiny import TinyBackbone, TinyConfig

VOCAB, MASK, EOS = 61, 0, 1


def tiny(scale: float = 0.3, seed: int = 0, **sizes: int) -> TinyBackbone:
    """A small model whose logits differ enough that rounding decides nothing."""
    sizes = {
        "vocab_size": VOCAB,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        **sizes,
    }
    model = TinyBackbone(TinyConfig(initializer_range=scale, **sizes))
    model.initialize(torch.Generator().manual_seed(seed))
    return model.eval()


@pytest.fixture(scope="module")
def model() -> TinyBackbone:
    return tiny()


def problem(seed: int, batch: int, length: int) -> dict[str, Tensor]:
    """Prompts of different lengths, padded left, and random hints."""
    generator = torch.Generator().manual_seed(seed)
    prompts = torch.randint(3, VOCAB, (batch, 6), generator=generator)
    real = torch.randint(1, 7, (batch, 1), generator=generator)
    mask = torch.arange(6) >= 6 - real
    hints = torch.randint(3, VOCAB, (batch, length), generator=generator)
    free = torch.rand(batch, length, generator=generator) < 0.7
    free[0] = True
    return {
        "prompt_ids": prompts.masked_fill(~mask, 2),
        "prompt_mask": mask,
        "hint_ids": hints.masked_fill(free, -1),
        "keys": row_keys([seed * 100 + i for i in range(batch)]),
    }


def keyed_noise(keys: Tensor):
    """The sampler's own noise, at every position."""

    def noise(steps: list[int], length: int, vocab: int) -> Tensor:
        per_step = fold(keys, torch.tensor(steps))[:, None]
        return gumbel(fold(per_step, torch.arange(length)), vocab)

    return noise


def plain(model: TinyBackbone, config: SamplerConfig, case: dict[str, Tensor]) -> Tensor:
    keys = case["keys"]

    def order(row: int, step: int, positions: Tensor) -> Tensor:
        return uniform(fold(fold(fold(keys[row], step), positions), 0x72616E64)).float()

    ids, _ = plain_denoise(
        model,
        case["prompt_ids"],
        config,
        case["prompt_mask"],
        case["hint_ids"],
        noise=keyed_noise(keys),
        row_order=order,
    )
    return ids


BASE = SamplerConfig(16, 8, 8)
CONFIGS = {
    "blocks": BASE,
    "full_diffusion": SamplerConfig(16, 16, 16),
    "uneven": SamplerConfig(16, 8, 6),
    "temperature": replace(BASE, temperature=0.7),
    "hot": replace(BASE, temperature=1.5),
    "top_k": replace(BASE, temperature=1.0, top_k=5),
    "top_p": replace(BASE, temperature=1.0, top_p=0.8),
    "top_k_and_top_p": replace(BASE, temperature=1.0, top_k=10, top_p=0.6),
    "random": replace(BASE, remasking="random"),
    "entropy": replace(BASE, remasking="entropy"),
    "margin": replace(BASE, remasking="margin"),
    "topk_margin": replace(BASE, remasking="topk_margin", temperature=0.8, top_k=6),
    "guidance": replace(BASE, cfg_scale=1.5),
    "threshold": replace(BASE, confidence_threshold=0.3),
    "threshold_and_temperature": replace(BASE, confidence_threshold=0.2, temperature=0.9),
    "factor": replace(BASE, factor=1.6),
    "forbidden": replace(BASE, forbidden_ids=tuple(range(3, 30))),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_the_same_tokens_as_the_plain_algorithm(model: TinyBackbone, name: str) -> None:
    for seed in range(4):
        case = problem(seed, batch=3, length=16)
        output = denoise(model, config=CONFIGS[name], **case)
        assert torch.equal(output.completion_ids, plain(model, CONFIGS[name], case))


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    batch=st.integers(1, 4),
    block=st.sampled_from([4, 8, 16]),
    steps_per_block=st.integers(1, 6),
    temperature=st.sampled_from([0.0, 0.5, 1.2]),
    threshold=st.sampled_from([None, 0.1, 0.5, 1.0]),
)
def test_random_cases_agree_with_the_plain_algorithm(
    seed: int, batch: int, block: int, steps_per_block: int, temperature: float, threshold: float
) -> None:
    config = SamplerConfig(
        16, block, 16 // block * steps_per_block, temperature, confidence_threshold=threshold
    )
    model, case = tiny(seed=seed % 3), problem(seed, batch, 16)
    output = denoise(model, config=config, **case)
    assert torch.equal(output.completion_ids, plain(model, config, case))
    hinted = case["hint_ids"] != -1
    assert torch.equal(output.hint_mask, hinted)
    assert torch.equal(output.completion_ids[hinted], case["hint_ids"][hinted])
    assert torch.equal(output.unmask_step == -1, hinted)
    assert not (output.completion_ids == MASK).any()
