"""Likelihoods of block-causal models in one pass, against block after block by hand."""

import pytest
import torch

from igpo_lightning.diffusion import SamplerConfig, denoise, draw_masked_inputs, token_scores
from igpo_lightning.diffusion.likelihood import combine_scores, packed_token_scores
from igpo_lightning.diffusion.masked_inputs import KINDS
from igpo_lightning.diffusion.paired_inputs import dense_layout, flex_layout, steps_within_blocks
from igpo_lightning.settings import LikelihoodConfig
from tests.small_backbones import VOCAB, build_native

NAMES = ["sdar", "llada2"]  # blocks of 3, not shifted
close = torch.testing.assert_close


def rows(lengths: list[int], completion: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Prompts padded on the left, which of their tokens are real, and completions."""
    drawn = torch.Generator().manual_seed(0)
    width = max(lengths)
    ids = torch.randint(3, VOCAB, (len(lengths), width), generator=drawn)
    real = torch.arange(width) >= torch.tensor([[width - length] for length in lengths])
    return ids, real, torch.randint(3, VOCAB, (len(lengths), completion), generator=drawn)


def inputs_of(kind: str, completion: torch.Tensor, real: torch.Tensor, **options):
    everything = torch.ones_like(completion, dtype=torch.bool)
    steps = options.pop("unmask_step", None)
    return draw_masked_inputs(
        LikelihoodConfig(kind=kind, **options),
        completion,
        keys=torch.arange(len(completion)),
        live_mask=everything,
        unmask_step=steps,
        prompt_mask=real,
        advantages=torch.tensor([1.0, -1.0, -1.0])[: len(completion)],
        block_size=3,
    )


def by_hand(model, prompt: torch.Tensor, completion: torch.Tensor, mask: torch.Tensor) -> list:
    """log p of each token of one row [C] in an input: its block is noised, what is before clean."""
    clean = torch.cat((prompt, completion))
    noised = torch.cat((prompt, completion.masked_fill(mask, model.mask_token_id)))
    made = []
    for place in range(len(prompt), len(clean)):
        start = place // 3 * 3
        row = torch.cat((clean[:start], noised[start : start + 3]))
        with torch.no_grad():
            logp = model(row[None])[0, place].float().log_softmax(dim=-1)
        made.append(logp[clean[place]].item())
    return made


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NAMES)
def test_every_estimator_scores_in_one_pass_what_block_after_block_does(name, kind) -> None:
    """Rows of 6, 4 and 1 prompt tokens in one batch, so that blocks begin in different columns.

    Each masked input is one pass, and none of the estimators makes a pass for each of the 7 tokens.
    """
    model, lengths = build_native(name), [6, 4, 1]
    prompts, real, completion = rows(lengths, 7)
    steps = torch.tensor([[3, 1, 0, 2, 4, 6, 5]]).expand(3, -1)
    inputs = inputs_of(kind, completion, real, unmask_step=steps, block_length=3)
    passes = inputs.masks.shape[1]
    assert passes < 7
    counted = Counted(model)
    with torch.no_grad():
        scores = token_scores(counted, prompts, completion, inputs, real)
    assert counted.passes == passes
    logps = torch.zeros(3, passes, 7)
    for row, length in enumerate(lengths):
        for n in range(passes):
            made = by_hand(model, prompts[row, -length:], completion[row], inputs.masks[row, n])
            logps[row, n] = torch.tensor(made)
    used = inputs.weights > 0
    close(scores.logp, combine_scores(logps * used, used, inputs), atol=1e-4, rtol=1e-4)


class Counted:
    """A model whose passes are counted."""

    def __init__(self, model) -> None:
        self.model, self.passes = model, 0

    def __getattr__(self, name: str):
        return getattr(self.model, name)

    def encode(self, *args, **kwargs):
        self.passes += 1
        return self.model.encode(*args, **kwargs)


def test_the_exact_likelihood_takes_a_pass_for_each_place_in_a_block() -> None:
    """Three passes, not nine, and each token is scored given all tokens before it."""
    model = build_native("sdar")
    prompts, real, completion = rows([4], 9)
    inputs = inputs_of("autoregressive", completion, real)
    assert inputs.masks.shape[1] == 3
    with torch.no_grad():
        scores = token_scores(model, prompts, completion, inputs, real).logp[0]
    for place in range(9):
        behind = torch.arange(9) >= place
        expected = by_hand(model, prompts[0], completion[0], behind)[place]
        assert scores[place].item() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("name", [*NAMES, "fast_dllm_v2"])
def test_a_row_is_scored_alone_as_among_others(name: str) -> None:
    model, lengths = build_native(name), [6, 4, 1]
    prompts, real, completion = rows(lengths, 7)
    inputs = inputs_of("elbo", completion, real)
    together = token_scores(model, prompts, completion, inputs, real).logp
    for row, length in enumerate(lengths):
        part = slice(row, row + 1)
        alone = token_scores(
            model, prompts[part, -length:], completion[part], inputs.rows(part)
        ).logp
        close(alone[0], together[row], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", [*NAMES, "fast_dllm_v2"])
def test_packed_rows_are_scored_as_in_rows_of_their_own(name: str) -> None:
    model = build_native(name)
    prompts, real, completion = rows([4, 4], 5)
    inputs = inputs_of("elbo", completion, real)
    apart = token_scores(model, prompts, completion, inputs).logp
    canvas = torch.cat((prompts, completion), dim=1).view(1, -1)
    numbers = torch.tensor([[1] * 9 + [2] * 9])
    places = torch.stack((torch.arange(4, 9), torch.arange(13, 18)))
    packed = packed_token_scores(model, canvas, numbers, places, inputs)
    close(packed, apart, atol=1e-5, rtol=1e-4)


def test_steps_are_counted_within_blocks() -> None:
    """A prompt of 4: the completion's blocks of 3 are [0, 1], [2, 3, 4], [5, 6]."""
    steps = torch.tensor([[1, 0, 4, 2, 4, 9, -1]])
    assert steps_within_blocks(steps, torch.tensor([4]), 3).tolist() == [[1, 0, 1, 0, 1, 1, 0]]


@pytest.mark.parametrize("name", NAMES)
def test_a_trajectory_is_replayed_in_as_many_passes_as_a_block_has_steps(name: str) -> None:
    """Greedy sampling, a token a step: each token was the most probable one when it was committed,
    and three inputs score all nine of them so."""
    model = build_native(name)
    prompts, real, _ = rows([6, 3], 9)
    out = denoise(model, prompts, SamplerConfig(9, 3, 9), prompt_mask=real)
    inputs = inputs_of(
        "trajectory", out.completion_ids, real, unmask_step=out.unmask_step, slices=3
    )
    assert inputs.masks.shape[1] == 3
    scores = token_scores(model, prompts, out.completion_ids, inputs, real).logp
    for row, length in enumerate([6, 3]):
        prompt = prompts[row, -length:]
        for place in range(9):
            later = out.unmask_step[row] >= out.unmask_step[row, place]
            logp = by_hand(model, prompt, out.completion_ids[row], later)[place]
            assert scores[row, place].item() == pytest.approx(logp, abs=1e-4)
            noised = out.completion_ids[row].masked_fill(later, model.mask_token_id)
            start = (length + place) // 3 * 3
            seen = torch.cat((prompt, out.completion_ids[row]))[:start]
            block = torch.cat((prompt, noised))[start : start + 3]
            with torch.no_grad():
                logits = model(torch.cat((seen, block))[None])[0, length + place]
            logits[model.mask_token_id] = -torch.inf
            assert logits.argmax() == out.completion_ids[row, place]


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", [*NAMES, "fast_dllm_v2"])
def test_flex_attention_computes_what_the_dense_mask_does(name: str, packed: bool) -> None:
    """Rows with padding, or two sequences in a row; blocks that tiles of 128 tokens cut through."""
    model, drawn = build_native(name), torch.Generator().manual_seed(0)
    ids = torch.randint(3, VOCAB, (2, 2 * 100), generator=drawn)
    real = (torch.arange(100) >= torch.tensor([[0], [17]])).long()
    if packed:
        real = torch.where(torch.arange(100) < 40, 1, 2).expand(2, -1)
    with torch.no_grad():
        dense, flexible = (
            model.encode(ids, window=(20, 100), layout=layout(real, 3))
            for layout in (dense_layout, flex_layout)
        )
    close(flexible, dense, atol=1e-5, rtol=1e-4)


def test_merged_steps_are_those_of_a_block() -> None:
    """TraceRL on SDAR: blocks of 3 with a token a step; merged by 2 they take 2 passes, not 5."""
    model = build_native("sdar")
    prompts, real, _ = rows([6, 4], 9)
    sampler = SamplerConfig(9, 3, 9)
    out = denoise(model, prompts, sampler, prompt_mask=real)
    settings = LikelihoodConfig(kind="trajectory", shrink=2).for_sampler(sampler.steps_in_order(3))
    everything = torch.ones_like(out.completion_ids, dtype=torch.bool)
    inputs = draw_masked_inputs(
        settings,
        out.completion_ids,
        keys=torch.arange(2),
        live_mask=everything,
        unmask_step=out.unmask_step,
        prompt_mask=real,
        block_size=3,
    )
    assert inputs.masks.shape[1] == 2
    # Whole blocks: two tokens are scored in the first input, the last one in the second.
    assert inputs.weights[0].unflatten(1, (3, 3)).sum(dim=2).tolist() == [[2, 2, 2], [1, 1, 1]]
    for n in range(2):  # what is scored is masked, and so is what was committed later
        scored = inputs.weights[0, n] > 0
        assert bool(inputs.masks[0, n][scored].all())
    assert inputs.weights.sum(dim=1).eq(1).all()
