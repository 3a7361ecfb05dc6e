"""Scores of completions in one call are those of the two steps that training takes."""

import torch

from igpo_lightning.diffusion import completion_scores, draw_masked_inputs, token_scores
from igpo_lightning.diffusion.noise import row_keys, stable_seed
from igpo_lightning.models import load_backbone
from igpo_lightning.settings import LikelihoodConfig

PROMPTS = torch.tensor([[0, 7, 8], [5, 6, 7]])
PROMPT_MASK = torch.tensor([[False, True, True], [True, True, True]])
COMPLETIONS = torch.tensor([[9, 10, 11, 12], [13, 14, 1, 1]])
ELBO = LikelihoodConfig(kind="elbo", samples=2)


def test_one_call_gives_what_two_give() -> None:
    model = load_backbone("tiny")
    scores = completion_scores(model, PROMPTS, COMPLETIONS, ELBO, prompt_mask=PROMPT_MASK, seed=3)
    inputs = draw_masked_inputs(
        ELBO,
        COMPLETIONS,
        keys=row_keys([stable_seed(3, 0), stable_seed(3, 1)]),
        live_mask=torch.tensor([[True] * 4, [True] * 3 + [False]]),
    )
    expected = token_scores(
        model, PROMPTS, COMPLETIONS, inputs, prompt_mask=PROMPT_MASK, with_entropy=True
    )
    assert torch.equal(scores.logp, expected.logp)
    assert scores.entropy is not None
    assert expected.entropy is not None
    assert torch.equal(scores.entropy, expected.entropy)


def test_masks_follow_from_the_seed() -> None:
    model = load_backbone("tiny")
    first, again, other = (
        completion_scores(model, PROMPTS, COMPLETIONS, ELBO, seed=seed).logp for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_mean_field_is_the_log_probability_under_a_masked_completion() -> None:
    """The paper's estimate: log softmax of the logits over [prompt, mask, mask, ...]."""
    model = load_backbone("tiny")
    scores = completion_scores(model, PROMPTS[1:], COMPLETIONS[1:])
    masked = torch.full((1, 4), model.mask_token_id)
    logits = model(torch.cat((PROMPTS[1:], masked), dim=1))[:, 3:]
    expected = logits.log_softmax(-1).gather(2, COMPLETIONS[1:, :, None])[..., 0]
    torch.testing.assert_close(scores.logp, expected, rtol=1e-5, atol=1e-5)
    scores.logp.sum().backward()
    assert any(p.grad is not None and bool(p.grad.any()) for p in model.parameters())
