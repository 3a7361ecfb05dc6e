"""What the likelihood estimators score, and that nothing but speed and memory depends on how."""

import pytest
import torch
from torch import Tensor

from igpo_lightning.diffusion import LikelihoodSettings, draw_masked_inputs, token_scores
from igpo_lightning.models.tiny import TinyBackbone, TinyConfig

VOCABULARY = 11


def tiny_model(seed: int = 0) -> TinyBackbone:
    torch.manual_seed(seed)
    config = TinyConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        initializer_range=0.5,
    )
    return TinyBackbone(config)


def batch(rows: int = 2, prompt: int = 4, completion: int = 6) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(3, VOCABULARY, (rows, prompt + completion), generator=generator)
    return ids[:, :prompt], ids[:, prompt:]


def draw(settings: LikelihoodSettings, completion_ids: Tensor, **given: Tensor):
    rows = len(completion_ids)
    defaults = {
        "keys": torch.arange(rows),
        "hint_mask": torch.zeros_like(completion_ids, dtype=torch.bool),
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
    inputs = draw(LikelihoodSettings(), completion_ids)
    scores = token_scores(model, prompt_ids, completion_ids, inputs, with_entropy=True)
    logp, entropy = plain_mean_field(model, prompt_ids, completion_ids)
    torch.testing.assert_close(scores.logp, logp)
    torch.testing.assert_close(scores.entropy, entropy)
    assert scores.logp.requires_grad
    assert not scores.entropy.requires_grad


def test_an_unknown_estimator_is_refused():
    with pytest.raises(ValueError, match="'median' is unknown"):
        LikelihoodSettings(kind="median")
