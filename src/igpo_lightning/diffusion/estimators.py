"""The likelihood estimators, each as the masks that it draws and the weights that it gives.

Every function returns (masks, weights), both [B, N, C]: N masked versions of each completion, and
what a token's log-probability in each of them contributes to its log-likelihood (0 where it is not
scored). All of them mask free tokens only; a row without any gets empty masks. docs/likelihood.md
has the formulas, and each estimator's bias and variance on a model that can be enumerated.
"""

import torch
from numpy.polynomial.legendre import leggauss
from torch import Tensor

from igpo_lightning.diffusion.noise import fold, uniform

_NOISE, _COUNT = 0, 1  # independent streams of one row key


def _noise(keys: Tensor, draws: int, length: int) -> Tensor:
    """Uniform noise [B, draws, C] of row keys [B]."""
    draw = torch.arange(draws, device=keys.device)
    position = torch.arange(length, device=keys.device)
    draw_keys = fold(fold(keys, _NOISE)[:, None], draw)  # [B, draws]
    return uniform(fold(draw_keys[..., None], position))


def _ranks(values: Tensor, chosen: Tensor) -> Tensor:
    """Rank [..., C] of each chosen value among the chosen ones of its row, smallest first.

    Values that are not chosen rank behind all others.
    """
    order = values.masked_fill(~chosen, torch.inf).argsort(dim=-1, stable=True)
    return order.argsort(dim=-1)


def mean_field_masks(free: Tensor) -> tuple[Tensor, Tensor]:
    """Everything masked at once (diffu-GRPO, arXiv 2504.12216; IGPO): `free` [B, C], N = 1."""
    masks = free[:, None]
    return masks, masks.float()


def elbo_masks(
    keys: Tensor, free: Tensor, samples: int, coupling: str = "independent"
) -> tuple[Tensor, Tensor]:
    """Monte Carlo estimate of the evidence lower bound, N = `samples`.

    A count l ~ U{1, ..., F} of the row's F free tokens is masked, and each masked token weighs
    F / (l N). This is the bound with t = l / F and weight 1 / t (LLaDA, arXiv 2502.09992, Eq. 14):
    the same expectation as masking each token with probability t ~ U(0, 1), whose weights have
    no finite variance.

    Args:
        keys: [B] int64.
        free: [B, C], tokens that may be masked.
        samples: n.
        coupling: How the inputs of a row belong together. "independent"; "shared": one random
            order of the tokens for all counts, so that smaller masks lie within larger ones;
            "antithetic": in pairs, the second with count F + 1 - l from the other end of the
            order, so that a pair masks every token (one token twice). Needs an even number.
    """
    count_free = free.sum(dim=1)[:, None]  # F, [B, 1]
    index = torch.arange(samples, device=free.device)
    paired = coupling == "antithetic"
    draws = {"independent": samples, "shared": 1, "antithetic": samples // 2}[coupling]
    source = {"independent": index, "shared": 0 * index, "antithetic": index // 2}[coupling]
    second = (index % 2 == 1) & paired  # [N]

    ranks = _ranks(_noise(keys, draws, free.shape[1]), free[:, None])[:, source]  # [B, N, C]
    drawn = uniform(fold(fold(keys, _COUNT)[:, None], index // 2 if paired else index))  # [B, N]
    counts = (drawn * count_free).long() + 1
    counts = torch.where(second, count_free + 1 - counts, counts)
    ranks = torch.where(second[:, None], count_free[..., None] - 1 - ranks, ranks)
    masks = (ranks < counts[..., None]) & free[:, None]
    weights = count_free / (counts.clamp(min=1) * samples)  # [B, N]
    return masks, masks * weights[..., None].float()


def quadrature_masks(
    keys: Tensor,
    free: Tensor,
    nodes: int,
    samples: int,
    coupling: str = "independent",
    fixed_counts: bool = False,
) -> tuple[Tensor, Tensor]:
    """The lower bound with fixed times: Gauss-Legendre nodes in t (GDPO, arXiv 2510.08554).

    The integral over t is taken by quadrature, the expectation over masks by Monte Carlo: node
    t_m with weight w_m masks each token with probability t_m, and a masked token weighs
    w_m / (t_m K). The integrand is a polynomial in t of degree F - 1, so M nodes leave no bias up
    to F = 2 M free tokens. N = M K inputs.

    Args:
        keys: [B] int64.
        free: [B, C].
        nodes: M.
        samples: K, masks for each node.
        coupling: "independent"; "shared": one noise for all nodes, so that masks are nested;
            "antithetic": nodes above 1/2 take the mirrored noise, so that the masks of t and 1 - t
            are complementary.
        fixed_counts: Mask t_m F tokens, rounded at random to a whole number, instead of each token
            by itself. The probability of each token is the same, the number no longer spreads:
            much less variance, for a bias that vanishes with the length.
    """
    points, node_weights = leggauss(nodes)  # on [-1, 1], symmetric
    times = torch.tensor((points + 1) / 2, device=free.device)
    mirrored = (times > 0.5) & (coupling == "antithetic")
    # The probability of the noise's lower end: of the masked tokens or, mirrored, of the others.
    lower = torch.where(mirrored, times.flip(0), times).repeat(samples)  # [N], float64
    times, mirrored = times.repeat(samples), mirrored.repeat(samples)
    share = torch.tensor(node_weights / 2, device=free.device).repeat(samples) / samples

    draws = nodes * samples if coupling == "independent" else samples
    source = torch.arange(draws, device=free.device).repeat_interleave(nodes * samples // draws)
    noise = _noise(keys, draws, free.shape[1])
    if fixed_counts:
        rounding = uniform(fold(fold(keys, _COUNT)[:, None], source))  # [B, N]
        counts = (lower * free.sum(dim=1)[:, None] + rounding).floor()
        below = _ranks(noise, free[:, None])[:, source] < counts[..., None]
    else:
        below = noise[:, source] < lower[:, None]
    masks = (below ^ mirrored[:, None]) & free[:, None]
    return masks, masks * (share / times).float()[:, None]


def strata_masks(
    keys: Tensor, free: Tensor, strata: int, full_pass: bool = False
) -> tuple[Tensor, Tensor]:
    """Complementary masks: input j masks the j-th of k random, equally large strata.

    Each token is scored once, with all other strata visible (DACA-GRPO, arXiv 2605.16342; k = 2:
    the coupled masks of DiffuCoder, arXiv 2506.20639). With `full_pass` one more input, the first,
    masks everything, and a token's estimate is the mean of its two scores: DiffuCoder's estimate
    with one pair. N = k or k + 1.
    """
    ranks = _ranks(_noise(keys, 1, free.shape[1])[:, 0], free)
    stratum = ranks * strata // free.sum(dim=1, keepdim=True).clamp(min=1)  # [B, C]
    index = torch.arange(strata, device=free.device)[:, None]
    masks = (stratum[:, None] == index) & free[:, None]
    if not full_pass:
        return masks, masks.float()
    masks = torch.cat((free[:, None], masks), dim=1)
    return masks, masks.float() / 2


def step_order(unmask_step: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Place of each chosen token's step among the distinct steps of its row.

    Args:
        unmask_step: [B, C], the step that committed the token; steps need not be consecutive.
        chosen: [B, C].

    Returns:
        Places [B, C], 0 for the earliest step (meaningless where not chosen), and the number of
        distinct steps [B, 1].
    """
    last = torch.iinfo(unmask_step.dtype).max
    ordered, order = unmask_step.masked_fill(~chosen, last).sort(dim=1)
    is_new = torch.ones_like(chosen)
    is_new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    places = torch.empty_like(order).scatter_(1, order, is_new.cumsum(dim=1) - 1)
    return places, (is_new & (ordered != last)).sum(dim=1, keepdim=True)


def trajectory_masks(unmask_step: Tensor, free: Tensor, slices: int) -> tuple[Tensor, Tensor]:
    """The order in which the sampler committed tokens, in k slices (TraceRL, arXiv 2509.06949).

    The steps of a row are grouped in order into k slices of equally many steps. Input j shows the
    slices before j, masks slice j and all later ones, and scores slice j. With as many slices as
    steps this is what the sampler really saw. Hints that are not held visible carry step -1 and
    thus belong to the first slice. N = k.
    """
    places, steps = step_order(unmask_step, free)
    slice_of = places * slices // steps.clamp(min=1)  # [B, C]
    index = torch.arange(slices, device=free.device)[:, None]
    masks = (slice_of[:, None] >= index) & free[:, None]
    return masks, ((slice_of[:, None] == index) & free[:, None]).float()


def order_credit(unmask_step: Tensor, counted: Tensor, strength: float) -> Tensor:
    """Per-token credit [B, C] from the denoising order, with mean 1 over a row's counted tokens.

    The earliest step gets 1 + s, the latest 1 - s, linearly between them: early tokens shape all
    that follow. After DACA-GRPO (arXiv 2605.16342), which weighs tokens by how the intermediate
    predictions approach the result; here the order alone decides. Tokens that are not counted
    get 1.

    Args:
        unmask_step: [B, C].
        counted: [B, C], live tokens that the sampler generated.
        strength: s in [-1, 1]; negative favours late tokens.
    """
    places, steps = step_order(unmask_step, counted)
    progress = places / (steps - 1).clamp(min=1)  # 0 at the first step, 1 at the last
    raw = torch.where(steps > 1, 1 + strength * (1 - 2 * progress), 1.0)
    total = (raw * counted).sum(dim=1, keepdim=True)
    mean = total / counted.sum(dim=1, keepdim=True).clamp(min=1)
    return torch.where(counted, raw / mean.clamp(min=1e-12), 1.0).float()
