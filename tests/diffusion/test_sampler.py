"""The denoising loop against the published algorithm written plainly, and its invariants."""

import shutil
from dataclasses import replace

import pytest
import torch
import torch._dynamo.utils
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_variants import denoise_variant
from sampler_cases import BASE, CONFIGS, EOS, MASK, allowing, problem, tiny
from torch import Tensor

from igpo_lightning.diffusion.noise import fold, gumbel, row_keys
from igpo_lightning.diffusion.plain import keyed_draws, plain_denoise
from igpo_lightning.diffusion.sampler import denoise
from igpo_lightning.models.tiny import TinyBackbone
from igpo_lightning.settings import SamplerConfig

PUBLISHED = ("blocks", "full_diffusion", "uneven", "temperature", "hot", "random", "guidance")


def plain(model: TinyBackbone, config: SamplerConfig, case: dict[str, Tensor]) -> Tensor:
    """The published loop, by the settings that it has."""
    ids, _ = plain_denoise(
        model,
        case["prompt_ids"],
        config.completion_length,
        config.block_length,
        config.steps,
        keyed_draws(case["keys"], config.completion_length),
        config.temperature,
        config.remasking,
        config.cfg_scale,
        case["prompt_mask"],
        case["hint_ids"],
    )
    return ids


def variant(model: TinyBackbone, config: SamplerConfig, case: dict[str, Tensor]) -> Tensor:
    """The oracle of every other setting, with the sampler's own noise at every position."""

    def noise(steps: list[int], vocab: int) -> Tensor:
        per_step = fold(case["keys"], torch.tensor(steps))[:, None]
        return gumbel(fold(per_step, torch.arange(config.completion_length)), vocab)

    prompts = case["prompt_ids"], config, case["prompt_mask"], case["hint_ids"]
    return denoise_variant(model, *prompts, noise)[0]


@pytest.mark.parametrize("name", CONFIGS)
def test_the_same_tokens_as_the_plain_algorithm(model: TinyBackbone, name: str) -> None:
    oracle = plain if name in PUBLISHED else variant
    for seed in range(4):
        case = problem(seed, batch=3, length=16)
        output = denoise(model, config=CONFIGS[name], **case)
        assert torch.equal(output.completion_ids, oracle(model, CONFIGS[name], case))


@pytest.mark.parametrize("name", ["uneven", "hot", "guidance"])
def test_both_oracles_agree_on_what_is_published(model: TinyBackbone, name: str) -> None:
    case = problem(8, batch=3, length=16)
    expected = plain(model, CONFIGS[name], case)
    assert torch.equal(variant(model, CONFIGS[name], case), expected)


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
    oracle = plain if threshold is None else variant
    assert torch.equal(output.completion_ids, oracle(model, config, case))
    hinted = case["hint_ids"] != -1
    assert torch.equal(output.hint_mask, hinted)
    assert torch.equal(output.completion_ids[hinted], case["hint_ids"][hinted])
    assert torch.equal(output.unmask_step == -1, hinted)
    assert not (output.completion_ids == MASK).any()


# ---- tokens that must not appear --------------------------------------------------------------


def test_the_mask_is_never_produced(model: TinyBackbone) -> None:
    case = problem(1, batch=4, length=16) | {"hint_ids": torch.full((4, 16), -1)}
    completion = denoise(model, config=replace(BASE, temperature=5.0), **case).completion_ids
    assert not (completion == MASK).any()


def test_eos_never_and_last() -> None:
    """Only EOS and token 5 may appear, so that EOS is drawn where it is not kept back."""
    model = allowing(tiny(), {EOS, 5})
    case = problem(2, batch=4, length=16) | {"hint_ids": torch.full((4, 16), -1)}
    config = SamplerConfig(16, 16, 16)
    free = denoise(model, config=config, **case)
    assert (free.completion_ids == EOS).any()
    never = denoise(model, config=replace(config, eos="never"), **case)
    assert not (never.completion_ids == EOS).any()
    # The order of unmasking changes, by `test_last_ids_are_scored_below_everything`.
    last = denoise(model, config=replace(config, eos="last"), **case)
    assert not torch.equal(last.unmask_step, free.unmask_step)


# ---- remasking --------------------------------------------------------------------------------


def test_remasking_follows_the_schedule_spares_hints_and_fills_everything(
    model: TinyBackbone,
) -> None:
    case = problem(5, batch=4, length=16)
    plain_output = denoise(model, config=replace(BASE, temperature=1.0), **case)
    config = replace(BASE, temperature=1.0, remask=0.5)
    output = denoise(model, config=config, **case)
    hinted = case["hint_ids"] != -1
    assert torch.equal(output.completion_ids[hinted], case["hint_ids"][hinted])
    assert not (output.completion_ids == MASK).any()
    assert torch.equal(output.unmask_step == -1, hinted)
    assert not torch.equal(output.completion_ids, plain_output.completion_ids)
    # Tokens that were masked again bear a later step: the mean step grows.
    later = output.unmask_step[~hinted].float().mean()
    assert later > plain_output.unmask_step[~hinted].float().mean()
    assert output.forward_passes == config.steps


# ---- randomness, precision, ranks -------------------------------------------------------------


def test_the_global_generator_is_neither_read_nor_seeded(model: TinyBackbone) -> None:
    prompts = torch.full((2, 6), 5)
    state = torch.get_rng_state()
    config = replace(BASE, temperature=1.0)
    first = denoise(model, prompts, config)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(denoise(model, prompts, config).completion_ids, first.completion_ids)
    seeded = [
        denoise(model, prompts, config, generator=torch.Generator().manual_seed(seed))
        for seed in (1, 1, 2)
    ]
    assert torch.equal(seeded[0].completion_ids, seeded[1].completion_ids)
    assert not torch.equal(seeded[0].completion_ids, seeded[2].completion_ids)


def test_what_does_not_fit_is_named(model: TinyBackbone) -> None:
    prompts = torch.full((1, 6), 5)
    with pytest.raises(
        ValueError, match=r"sampler.block_length=4: must divide sampler.completion_length=10"
    ):
        SamplerConfig(10, 4, 4)
    with pytest.raises(ValueError, match=r"sampler.steps=5: must be a multiple of the 2 blocks"):
        SamplerConfig(16, 8, 5)
    with pytest.raises(ValueError, match=r"sampler.remasking=entropies: use one of"):
        SamplerConfig(16, 8, 8, remasking="entropies")
    with pytest.raises(
        ValueError, match=r"sampler.remasking=entropy: with sampler.confidence_threshold set"
    ):
        SamplerConfig(16, 8, 8, remasking="entropy", confidence_threshold=0.9)
    with pytest.raises(ValueError, match="cuda_graphs' needs a GPU"):
        denoise(model, prompts, replace(BASE, compile="cuda_graphs"))
    with pytest.raises(ValueError, match="hint_ids is"):
        denoise(model, prompts, BASE, hint_ids=torch.full((1, 8), -1))


def test_a_body_is_compiled_once_and_used_in_every_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """The compiler itself is torch's: here it hands the body back and counts."""
    model, compiled, calls = tiny(), [], []

    def compile_body(body, mode):
        compiled.append(mode)
        return lambda *args, **options: calls.append(1) or body(*args, **options)

    monkeypatch.setattr(torch, "compile", compile_body)
    case = problem(4, batch=2, length=16)
    expected = denoise(model, config=BASE, **case)
    for _ in range(2):
        output = denoise(model, config=replace(BASE, compile="default"), **case)
        assert torch.equal(output.completion_ids, expected.completion_ids)
    assert compiled == [None]
    assert len(calls) == 2 * expected.forward_passes


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch compiles for CPUs with g++")
@pytest.mark.parametrize("cache", ["none", "dual"])
def test_a_compiled_body_gives_the_same_tokens_and_is_one_graph(cache: str) -> None:
    model, case = tiny(), problem(3, batch=3, length=16)
    config = replace(BASE, temperature=1.0, cache=cache)
    expected = denoise(model, config=config, **case)
    torch._dynamo.utils.counters.clear()
    output = denoise(model, config=replace(config, compile="default"), **case)
    assert torch.equal(output.completion_ids, expected.completion_ids)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    assert not torch._dynamo.utils.counters["graph_break"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="only a GPU runs behind the host")
def test_a_fixed_schedule_never_waits_for_the_gpu() -> None:
    model, prompts = tiny().cuda(), torch.full((2, 6), 5, device="cuda")
    prompts[1] += 1
    config = replace(BASE, temperature=1.0)
    denoise(model, prompts, config, keys=row_keys([1, 2], "cuda"))
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        output = denoise(model, prompts, config, keys=row_keys([1, 2], "cuda"))
    waits = sum(event.count for event in profile.key_averages() if "Synchronize" in event.key)
    assert waits < output.forward_passes
