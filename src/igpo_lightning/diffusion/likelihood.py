"""Likelihood estimates of a completion under a masked diffusion model."""

from dataclasses import dataclass

import torch
from torch import Tensor

from igpo_lightning.diffusion.head_scores import any_head_scores, linear_head_scores, part_count
from igpo_lightning.diffusion.masked_inputs import MaskedInputs
from igpo_lightning.diffusion.paired_inputs import encode_noised, noised_layout
from igpo_lightning.models.backbone import Backbone


@dataclass(frozen=True)
class TokenScores:
    """Per-token estimates, both [B, C] in float32.

    Attributes:
        logp: Log-likelihood of each completion token; 0 where it was not asked for.
        entropy: Entropy in nats of the model's distribution at each position, the mean over the
            inputs in which the token is scored (0 if in none); it carries no gradient. None
            unless asked for.
    """

    logp: Tensor
    entropy: Tensor | None

    def detached(self) -> "TokenScores":
        """Without gradient."""
        return TokenScores(self.logp.detach(), self.entropy)


def combine_scores(logp: Tensor, used: Tensor, inputs: MaskedInputs) -> Tensor:
    """Estimates [B, C] from log-probabilities [B, N, C] in each input, 0 where `used` is False.

    The lower bound is the weighted sum. The upper bound of SPG (arXiv 2510.09541), up to a constant
    that does not depend on the model, is the mean of log(sum_n w_n p_n^beta) / beta over the tokens
    that some mask hid, times the number of tokens that the lower bound stands for.
    """
    lower = (inputs.weights * logp).sum(dim=1)
    if inputs.upper_share is None:
        return lower
    seen = used.any(dim=1)  # [B, C]; a token that is masked nowhere has no log to take
    exponents = inputs.weights.clamp(min=1e-30).log() + inputs.upper_beta * logp
    exponents = exponents.masked_fill(~used & seen[:, None], -torch.inf)
    upper = torch.where(seen, exponents.logsumexp(dim=1) / inputs.upper_beta, 0.0)
    # The weights of a row add up to its tokens, of which those that no mask hid have no term.
    total = inputs.weights.sum(dim=(1, 2)) / (inputs.weights > 0).any(dim=1).sum(dim=1).clamp(min=1)
    return torch.lerp(lower, upper * total[:, None], inputs.upper_share[:, None])


def _head_scores(
    model: Backbone, hidden: Tensor, tokens: Tensor, most: int, with_entropy: bool
) -> tuple[Tensor, Tensor | None]:
    """Scores [M] of hidden states [M, D], of which a rank with other tokens may have `most`."""
    weight = model.head_weight()
    if weight is not None:
        return linear_head_scores(hidden, weight, tokens, with_entropy=with_entropy)
    parts = part_count(most, model.vocab_size)
    return any_head_scores(model.project, hidden, tokens, parts=parts, with_entropy=with_entropy)


def token_scores(
    model: Backbone,
    prompt_ids: Tensor,
    completion_ids: Tensor,
    inputs: MaskedInputs,
    prompt_mask: Tensor | None = None,
    counted: Tensor | None = None,
    with_entropy: bool = False,
) -> TokenScores:
    """Score completions at drawn masks: one forward pass of the body for each masked input.

    Args:
        model: The backbone; gradients flow into it.
        prompt_ids: [B, P], padded on the left.
        completion_ids: [B, C].
        inputs: The masked inputs of these rows.
        prompt_mask: [B, P], True at real tokens; None where nothing is padded.
        counted: [B, C], positions whose value is needed; the head runs at no other. None for all.
        with_entropy: Whether entropies are asked for.
    """
    prompt_length = prompt_ids.shape[1]
    attention_mask = None
    if prompt_mask is not None and not bool(prompt_mask.all()):
        real = torch.ones_like(completion_ids, dtype=torch.bool)
        attention_mask = torch.cat((prompt_mask.bool(), real), dim=1)
    used = inputs.weights > 0  # [B, N, C]
    if counted is not None:
        used = used & counted[:, None]
    window = (prompt_length, prompt_length + completion_ids.shape[1])
    layout = noised_layout(model, torch.cat((prompt_ids, completion_ids), dim=1), attention_mask)
    logps, entropies = [], []
    for n, scored in enumerate(used.unbind(dim=1)):
        prompt = prompt_ids
        if inputs.prompt_masks is not None:
            prompt = prompt_ids.masked_fill(inputs.prompt_masks[:, n], model.mask_token_id)
        noised = completion_ids.masked_fill(inputs.masks[:, n], model.mask_token_id)
        canvas = torch.cat((prompt, noised), dim=1)
        clean = torch.cat((prompt, completion_ids), dim=1)
        hidden = encode_noised(model, canvas, clean, attention_mask, layout, window)  # [B, C, D]
        logp, entropy = _head_scores(
            model, hidden[scored], completion_ids[scored], completion_ids.numel(), with_entropy
        )
        empty = torch.zeros(scored.shape, device=scored.device)
        logps.append(empty.masked_scatter(scored, logp))
        if entropy is not None:
            entropies.append(empty.masked_scatter(scored, entropy))
    estimate = combine_scores(torch.stack(logps, dim=1), used, inputs)
    if not with_entropy:
        return TokenScores(logp=estimate, entropy=None)
    times_scored = used.sum(dim=1).clamp(min=1)
    return TokenScores(logp=estimate, entropy=torch.stack(entropies, dim=1).sum(1) / times_scored)


def packed_token_scores(
    model: Backbone,
    canvas_ids: Tensor,
    sequence_numbers: Tensor,
    places: Tensor,
    inputs: MaskedInputs,
) -> Tensor:
    """`token_scores` of completions that share canvases: log-likelihoods [R, C] in float32.

    Args:
        model: A backbone with `supports_packing`.
        canvas_ids: [K, L], prompts and completions in turn.
        sequence_numbers: [K, L], which sequence a token belongs to, from 1; 0 at padding.
        places: [R, C], of each completion's tokens in the flattened canvases; below 0 after the
            completion's end, where the score is 0.
        inputs: The masked inputs of the R completions.
    """
    real = places >= 0
    flat = canvas_ids.flatten()
    tokens = flat[places.clamp(min=0)]
    used = (inputs.weights > 0) & real[:, None]
    layout = noised_layout(model, canvas_ids, sequence_numbers)
    logps = []
    for masks, scored in zip(inputs.masks.unbind(dim=1), used.unbind(dim=1), strict=True):
        noised = flat.index_fill(0, places[masks & real], model.mask_token_id).view_as(canvas_ids)
        hidden = encode_noised(model, noised, canvas_ids, sequence_numbers, layout)  # [K, L, D]
        hidden = hidden.flatten(0, 1)
        # Ranks have equally many canvases of one width, but not equally many tokens to score.
        most = canvas_ids.numel()
        logp, _ = _head_scores(model, hidden[places[scored]], tokens[scored], most, False)
        empty = torch.zeros(scored.shape, device=scored.device)
        logps.append(empty.masked_scatter(scored, logp))
    return combine_scores(torch.stack(logps, dim=1), used, inputs)
