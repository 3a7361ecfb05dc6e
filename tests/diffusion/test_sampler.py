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


# ---- what may not change a row ----------------------------------------------------------------


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
@pytest.mark.parametrize("name", ["hot", "guidance", "threshold", "remask", "cosine"])
def test_cached_rows_do_not_depend_on_their_batch(
    model: TinyBackbone, cache: str, name: str
) -> None:
    """Rows need different numbers of steps, and refresh their cache at their own."""
    extra = {"remask": replace(BASE, remask=0.4), "cosine": replace(BASE, schedule="cosine")}
    config = replace((CONFIGS | extra)[name], cache=cache, cache_refresh=3)
    case = problem(11, batch=4, length=16)
    together = denoise(model, config=config, **case)
    for row in range(4):
        alone = denoise(
            model, config=config, **{key: value[row : row + 1] for key, value in case.items()}
        )
        assert torch.equal(alone.completion_ids[0], together.completion_ids[row])


@pytest.mark.parametrize("cache", ["prefix", "dual"])
@pytest.mark.parametrize("name", ["hot", "guidance", "threshold", "remask", "cosine"])
@pytest.mark.parametrize("blocks", [2, 4])
def test_rows_with_a_cache_over_blocks_do_not_depend_on_their_batch(
    model: TinyBackbone, cache: str, name: str, blocks: int
) -> None:
    extra = {"remask": replace(BASE, remask=0.4), "cosine": replace(BASE, schedule="cosine")}
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
    model, ended = tiny(), 0
    few = tuple(range(8, VOCAB))  # so that EOS is likely
    for seed in range(6):
        case = problem(seed, batch=4, length=32) | {"hint_ids": torch.full((4, 32), -1)}
        case["hint_ids"][1, 20:24] = 9
        config = SamplerConfig(32, 8, 16, temperature=1.5, forbidden_ids=few)
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


# ---- tokens that must not appear --------------------------------------------------------------


def test_forbidden_ids_and_the_mask_are_never_produced(model: TinyBackbone) -> None:
    case = problem(1, batch=4, length=16) | {"hint_ids": torch.full((4, 16), -1)}
    forbidden = tuple(range(5, VOCAB))
    config = replace(BASE, temperature=2.0, forbidden_ids=forbidden)
    assert set(denoise(model, config=config, **case).completion_ids.unique().tolist()) <= {
        1,
        2,
        3,
        4,
    }


def test_eos_never_and_last() -> None:
    """Only EOS and token 5 may appear, so that EOS is drawn where it is not kept back."""
    model = tiny()
    case = problem(2, batch=4, length=16) | {"hint_ids": torch.full((4, 16), -1)}
    only = tuple(i for i in range(VOCAB) if i not in (EOS, 5))
    config = SamplerConfig(16, 16, 16, forbidden_ids=only)
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


# ---- work -------------------------------------------------------------------------------------


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
    case = problem(0, batch=3, length=16) | {"hint_ids": hints}
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
    case = problem(0, batch=2, length=8) | {"hint_ids": hints}
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


def test_bfloat16_autocast_reaches_body_and_head(model: TinyBackbone) -> None:
    seen: list[torch.dtype] = []
    hook = model.norm.register_forward_pre_hook(
        lambda _, args: (
            seen.append(torch.get_autocast_dtype("cpu")) or None
            if torch.is_autocast_enabled("cpu")
            else None
        )
    )
    case = problem(0, batch=2, length=16)
    output = denoise(model, config=replace(BASE, autocast="bfloat16", cache="dual"), **case)
    hook.remove()
    assert seen == [torch.bfloat16] * output.forward_passes
    assert not (output.completion_ids == MASK).any()


def test_what_does_not_fit_is_named(model: TinyBackbone) -> None:
    prompts = torch.full((1, 6), 5)
    with pytest.raises(ValueError, match="completion_length=10 is no multiple of block_length=4"):
        SamplerConfig(10, 4, 4)
    with pytest.raises(ValueError, match="steps=5 is no multiple of the 2 blocks"):
        SamplerConfig(16, 8, 5)
    with pytest.raises(ValueError, match="remasking='entropies' is unknown"):
        SamplerConfig(16, 8, 8, remasking="entropies")
    with pytest.raises(ValueError, match=r"confidence_threshold=0\.9 needs remasking"):
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
