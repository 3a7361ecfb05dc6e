"""Score completions in one call: what notebooks and small scripts need of the likelihood."""

import torch
from torch import Tensor

from igpo_lightning.diffusion.forward_process import live_mask
from igpo_lightning.diffusion.likelihood import TokenScores, token_scores
from igpo_lightning.diffusion.masked_inputs import draw_masked_inputs
from igpo_lightning.diffusion.noise import row_keys, stable_seed
from igpo_lightning.models.backbone import Backbone
from igpo_lightning.settings import LikelihoodConfig

MEAN_FIELD = LikelihoodConfig()


def completion_scores(
    model: Backbone,
    prompt_ids: Tensor,
    completion_ids: Tensor,
    settings: LikelihoodConfig = MEAN_FIELD,
    *,
    prompt_mask: Tensor | None = None,
    unmask_step: Tensor | None = None,
    advantages: Tensor | None = None,
    seed: int = 0,
) -> TokenScores:
    """Log-likelihood and entropy of each completion token, both [B, C] in float32.

    Equal seeds draw equal masks: score the old, the new and the reference policy with one seed, so
    that their ratios compare like with like. Training draws its masks by
    `draw_masked_inputs` and scores them by `token_scores`, in micro-batches; this is both in one.

    Args:
        model: The backbone; gradients flow into it unless `torch.no_grad()` is on.
        prompt_ids: [B, P], padded on the left.
        completion_ids: [B, C].
        settings: The estimator; the default is the paper's, one pass over a fully masked
            completion.
        prompt_mask: [B, P], True at real tokens; None where nothing is padded.
        unmask_step: [B, C], the denoising step that committed each token; "trajectory" needs it.
        advantages: [B]; "sandwich" needs them.
        seed: Of the masks; a row's masks follow from the seed and its place in the batch.

    Raises:
        ValueError: The estimator needs an argument that is None.
    """
    seeds = [stable_seed(seed, row) for row in range(len(completion_ids))]
    inputs = draw_masked_inputs(
        settings,
        completion_ids,
        keys=row_keys(seeds, completion_ids.device),
        live_mask=live_mask(completion_ids, model.eos_token_id),
        unmask_step=unmask_step,
        prompt_mask=torch.ones_like(prompt_ids) if prompt_mask is None else prompt_mask,
        advantages=advantages,
    )
    return token_scores(
        model, prompt_ids, completion_ids, inputs, prompt_mask=prompt_mask, with_entropy=True
    )
