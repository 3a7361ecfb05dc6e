"""What the likelihood estimators score, and that nothing but speed and memory depends on how."""

import math

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from igpo_lightning.diffusion import MaskedInputs, draw_masked_inputs, likelihood, token_scores
from igpo_lightning.models.tiny import TinyBackbone
from igpo_lightning.settings import LikelihoodConfig
from tests.small_backbones import tiny_config

VOCABULARY, WIDTH = 11, 16


def tiny_model(seed: int = 0) -> TinyBackbone:
    torch.manual_seed(seed)
    sizes = {"hidden_size": WIDTH, "intermediate_size": 24, "initializer_range": 0.5}
    return TinyBackbone(tiny_config(VOCABULARY, num_hidden_layers=2, **sizes))


def batch(rows: int = 2, prompt: int = 4, completion: int = 6) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(3, VOCABULARY, (rows, prompt + completion), generator=generator)
    return ids[:, :prompt], ids[:, prompt:]


def draw(settings: LikelihoodConfig, completion_ids: Tensor, **given: Tensor):
    rows = len(completion_ids)
    defaults = {
        "keys": torch.arange(rows),
        "live_mask": torch.ones_like(completion_ids, dtype=torch.bool),
    }
    return draw_masked_inputs(settings, completion_ids, **(defaults | given))


def plain_mean_field(model: TinyBackbone, prompt_ids: Tensor, completion_ids: Tensor):
    """The straightforward version: all logits, a log-softmax, a gather."""
    canvas = torch.cat((prompt_ids, torch.zeros_like(completion_ids)), dim=1)  # 0 is the mask
    distribution = model(canvas)[:, prompt_ids.shape[1] :].log_softmax(dim=-1)
    logp = distribution.gather(-1, completion_ids[..., None]).squeeze(-1)
    return logp, -(distribution.exp() * distribution).sum(dim=-1)


def test_mean_field_is_one_pass_over_the_masked_completion():
    model, (prompt_ids, completion_ids) = tiny_model(), batch()
    inputs = draw(LikelihoodConfig(), completion_ids)
    scores = token_scores(model, prompt_ids, completion_ids, inputs, with_entropy=True)
    logp, entropy = plain_mean_field(model, prompt_ids, completion_ids)
    torch.testing.assert_close(scores.logp, logp)
    torch.testing.assert_close(scores.entropy, entropy)
    assert scores.logp.requires_grad
    assert not scores.entropy.requires_grad


def test_an_unknown_estimator_is_refused():
    with pytest.raises(ValueError, match=r"likelihood\.kind=median: use one of"):
        LikelihoodConfig(kind="median")


ALL_KINDS = [
    LikelihoodConfig("mean_field"),
    LikelihoodConfig("mean_field", prompt_mask_rate=0.5),
    LikelihoodConfig("elbo", samples=4, coupling="antithetic"),
    LikelihoodConfig("quadrature", nodes=2, samples=2),
    LikelihoodConfig("strata", strata=3),
    LikelihoodConfig("sandwich", samples=3),
    LikelihoodConfig("trajectory", slices=3),
    LikelihoodConfig("trajectory", slices=2),
    LikelihoodConfig("trajectory", slices=4, shrink=1, separate=True),
    LikelihoodConfig("pairs", samples=2),
    LikelihoodConfig("spread", samples=3, live_only=True),
    LikelihoodConfig("coupled"),
    LikelihoodConfig("blocks", samples=2, block_length=2, live_only=True),
    LikelihoodConfig("every_block", samples=2, block_length=2),
    LikelihoodConfig("autoregressive"),
    LikelihoodConfig("autoregressive", positions=2),
]


def draw_all(settings: LikelihoodConfig, prompt_ids: Tensor, completion_ids: Tensor):
    """Every argument that any estimator may need; the last row has a hint and a negative sign."""
    rows, length = completion_ids.shape
    hint_mask = torch.zeros(rows, length, dtype=torch.bool)
    hint_mask[-1, 1] = True
    steps = (torch.arange(length) * 3 % 4).expand(rows, length).masked_fill(hint_mask, -1)
    return draw(
        settings,
        completion_ids,
        keys=torch.arange(rows) + 100,
        unmask_step=steps,
        prompt_mask=torch.ones_like(prompt_ids, dtype=torch.bool),
        advantages=torch.linspace(1, -1, rows),
    )


def plain_scores(model: TinyBackbone, prompt_ids: Tensor, completion_ids: Tensor, inputs):
    """The formulas token by token, from all logits: the slow version of every estimator."""
    rows, length = completion_ids.shape
    logp, entropy = torch.zeros(rows, length), torch.zeros(rows, length)
    for b in range(rows):
        terms: dict[int, list] = {k: [] for k in range(length)}
        for n in range(inputs.masks.shape[1]):
            prompt, completion = prompt_ids[b].clone(), completion_ids[b].clone()
            completion[inputs.masks[b, n]] = model.mask_token_id
            if inputs.prompt_masks is not None:
                prompt[inputs.prompt_masks[b, n]] = model.mask_token_id
            canvas = torch.cat((prompt, completion))[None]
            distribution = model(canvas)[0, len(prompt) :].log_softmax(dim=-1)
            for k in range(length):
                weight = inputs.weights[b, n, k]
                if weight > 0:
                    row = distribution[k]
                    surprise = -(row.exp() * row).sum()
                    terms[k].append((weight, row[completion_ids[b, k]], surprise))
        for k, scored in terms.items():
            if not scored:
                continue
            lower = sum(w * log for w, log, _ in scored)
            share = 0.0 if inputs.upper_share is None else float(inputs.upper_share[b])
            powers = sum(w * (inputs.upper_beta * log).exp() for w, log, _ in scored)
            logp[b, k] = (1 - share) * lower + share * powers.log() / inputs.upper_beta
            entropy[b, k] = sum(h for _, _, h in scored) / len(scored)
    return logp, entropy


@pytest.mark.parametrize("settings", ALL_KINDS, ids=lambda s: s.kind)
def test_values_and_gradients_equal_the_plain_formula(settings):
    model, (prompt_ids, completion_ids) = tiny_model(), batch(rows=3)
    inputs = draw_all(settings, prompt_ids, completion_ids)
    weights = torch.randn(completion_ids.shape, generator=torch.Generator().manual_seed(3))

    scores = token_scores(model, prompt_ids, completion_ids, inputs, with_entropy=True)
    (scores.logp * weights).sum().backward()
    gradients = [p.grad.clone() for p in model.parameters()]

    model.zero_grad()
    logp, entropy = plain_scores(model, prompt_ids, completion_ids, inputs)
    (logp * weights).sum().backward()
    torch.testing.assert_close(scores.logp, logp, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(scores.entropy, entropy.detach(), atol=1e-5, rtol=1e-5)
    for gradient, parameter in zip(gradients, model.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad, atol=5e-5, rtol=1e-4)


@pytest.mark.parametrize("settings", ALL_KINDS, ids=lambda s: s.kind)
def test_a_micro_batch_gives_the_values_of_the_whole_batch(settings):
    model, (prompt_ids, completion_ids) = tiny_model(), batch(rows=3)
    inputs = draw_all(settings, prompt_ids, completion_ids)
    whole = token_scores(model, prompt_ids, completion_ids, inputs).logp
    rows = slice(1, 3)
    part = token_scores(model, prompt_ids[rows], completion_ids[rows], inputs.rows(rows)).logp
    torch.testing.assert_close(part, whole[rows])


@pytest.mark.parametrize("settings", ALL_KINDS, ids=lambda s: s.kind)
def test_padding_changes_neither_masks_nor_values(settings):
    model, (prompt_ids, completion_ids) = tiny_model(), batch(rows=2)
    plain = draw_all(settings, prompt_ids, completion_ids)
    padded_ids = torch.cat((torch.full((2, 3), 2), prompt_ids), dim=1)
    prompt_mask = torch.cat((torch.zeros(2, 3), torch.ones(2, 4)), dim=1).bool()
    hint_mask = torch.zeros_like(completion_ids, dtype=torch.bool)
    hint_mask[-1, 1] = True
    padded = draw(
        settings,
        completion_ids,
        keys=torch.arange(2) + 100,
        unmask_step=(torch.arange(6) * 3 % 4).expand(2, 6).masked_fill(hint_mask, -1),
        prompt_mask=prompt_mask,
        advantages=torch.linspace(1, -1, 2),
    )
    expected = token_scores(model, prompt_ids, completion_ids, plain).logp
    scores = token_scores(model, padded_ids, completion_ids, padded, prompt_mask)
    torch.testing.assert_close(scores.logp, expected, atol=1e-5, rtol=1e-5)


class LargestTensor(TorchDispatchMode):
    """Notes the most rows of any tensor that is as wide as the vocabulary."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if not isinstance(tensor, Tensor) or tensor.shape == (WIDTH, VOCABULARY):
                continue  # the head's own weight, transposed
            if tensor.dim() and tensor.shape[-1] == VOCABULARY:
                self.rows = max(self.rows, tensor.numel() // VOCABULARY)
        return out


@pytest.mark.parametrize("linear", [True, False])
def test_only_counted_positions_get_logits(linear):
    """3 of 18 positions count: no tensor has a row of logits for more of them."""
    model, (prompt_ids, completion_ids) = tiny_model(), batch(rows=3)
    inputs = draw_all(LikelihoodConfig("strata", strata=2), prompt_ids, completion_ids)
    full = token_scores(model, prompt_ids, completion_ids, inputs, with_entropy=True)
    if not linear:
        model.head_weight = lambda: None
    counted = torch.zeros_like(completion_ids, dtype=torch.bool)
    counted[0, :2] = counted[2, 5] = True
    with LargestTensor() as largest:
        scores = token_scores(
            model, prompt_ids, completion_ids, inputs, counted=counted, with_entropy=True
        )
        scores.logp.sum().backward()
    assert 1 <= largest.rows <= 3
    assert torch.equal(scores.logp != 0, counted)
    assert torch.equal(scores.entropy != 0, counted)
    torch.testing.assert_close(scores.logp[counted], full.logp[counted])
    torch.testing.assert_close(scores.entropy[counted], full.entropy[counted])


def test_a_row_in_which_nothing_counts_still_reaches_every_parameter():
    """A rank without counted tokens must take part in the gradient reduction."""
    model, (prompt_ids, completion_ids) = tiny_model(), batch()
    inputs = draw(LikelihoodConfig(), completion_ids)
    nothing = torch.zeros_like(completion_ids, dtype=torch.bool)
    scores = token_scores(model, prompt_ids, completion_ids, inputs, counted=nothing)
    scores.logp.sum().backward()
    assert all(float(p.grad.abs().sum()) == 0 for p in model.parameters())


def test_the_sandwich_takes_the_upper_bound_for_negative_advantages_only():
    """p = 1/2 in one input with w = 2 and 1/4 in another with w = 1, beta = 2, share 1/2:
    lower = 2 log(1/2) + log(1/4) = -4 log 2; upper = log(2/4 + 1/16) / 2 = log(9/16) / 2 =
    log(3/4) for the one token that was masked, which stands for the 2 + 1 = 3 tokens that the
    weights add up to; the mix is the mean of both."""
    logp = torch.tensor([[[0.5], [0.25]], [[0.5], [0.25]]]).log()
    weights = torch.tensor([[[2.0], [1.0]], [[2.0], [1.0]]])
    inputs = MaskedInputs(
        masks=weights > 0,
        weights=weights,
        scored=torch.ones(2, 1, dtype=torch.bool),
        upper_share=torch.tensor([0.0, 0.5]),
        upper_beta=2.0,
    )
    estimate = likelihood.combine_scores(logp, weights > 0, inputs)
    lower, upper = -4 * math.log(2), 3 * math.log(3 / 4)
    assert estimate.flatten().tolist() == pytest.approx([lower, (lower + upper) / 2])


def test_the_sandwich_has_a_finite_gradient_where_a_token_is_never_masked():
    logp = torch.zeros(1, 2, 1, requires_grad=True)
    weights = torch.zeros(1, 2, 1)
    inputs = MaskedInputs(
        masks=weights > 0,
        weights=weights,
        scored=torch.ones(1, 1, dtype=torch.bool),
        upper_share=torch.ones(1),
        upper_beta=1.5,
    )
    estimate = likelihood.combine_scores(logp, weights > 0, inputs)
    estimate.sum().backward()
    assert estimate.item() == 0
    assert torch.equal(logp.grad, torch.zeros_like(logp))


@pytest.mark.parametrize(
    ("settings", "missing"),
    [
        (LikelihoodConfig("trajectory"), "unmask_step"),
        (LikelihoodConfig("sandwich"), "advantages"),
        (LikelihoodConfig(prompt_mask_rate=0.1), "prompt_mask"),
    ],
)
def test_a_missing_argument_is_named(settings, missing):
    with pytest.raises(ValueError, match=missing):
        draw(settings, batch()[1])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"coupling": "twins"}, "likelihood.coupling=twins: use one of"),
        (
            {"kind": "elbo", "samples": 3, "coupling": "antithetic"},
            "likelihood.samples=3: must be even",
        ),
        ({"strata": 0}, "likelihood.strata=0: give at least 1"),
        ({"prompt_mask_rate": 1.5}, "prompt_mask_rate=1.5"),
        ({"shrink": 0}, "likelihood.shrink=0: give at least 1"),
    ],
)
def test_settings_out_of_range_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        LikelihoodConfig(**values)
