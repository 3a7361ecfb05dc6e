"""The likelihood estimators, each as the masks that it draws and the weights that it gives.

Every function returns (masks, weights), both [B, N, C]: N masked versions of each completion, and
what a token's log-probability in each of them contributes to its log-likelihood (0 where it is not
scored). All of them mask free tokens only; a row without any gets empty masks. docs/likelihood.md
has the formulas, and each estimator's bias and variance on a model that can be enumerated.
"""

import torch
from numpy.polynomial.legendre import leggauss
from torch import Tensor

from igpo_lightning.diffusion import unmasking
from igpo_lightning.diffusion.noise import fold, uniform

_NOISE, COUNT = 0, 1  # independent streams of one row key


def mask_noise(keys: Tensor, draws: int, length: int) -> Tensor:
    """Uniform noise [B, draws, C] of row keys [B]."""
    draw = torch.arange(draws, device=keys.device)
    position = torch.arange(length, device=keys.device)
    draw_keys = fold(fold(keys, _NOISE)[:, None], draw)  # [B, draws]
    return uniform(fold(draw_keys[..., None], position))


def ranks_among(values: Tensor, chosen: Tensor) -> Tensor:
    """Rank [..., C] of each chosen value among the chosen ones of its row, smallest first.

    Values that are not chosen rank behind all others.
    """
    return unmasking.ranks(-values, chosen)[1]


def mean_field_masks(free: Tensor) -> tuple[Tensor, Tensor]:
    """Everything masked at once (diffu-GRPO, arXiv 2504.12216; IGPO): `free` [B, C], N = 1."""
    masks = free[:, None]
    return masks, masks.float()


def bound_weights(masks: Tensor, total: Tensor) -> Tensor:
    """Weights F / (l N) of the lower bound, for masks [B, N, C] of l of F = `total` [B] tokens.

    Random counts l ~ U{1, ..., F}, or t = l / F: LLaDA, SPG and BGPO.
    """
    counts = masks.sum(dim=2)  # l, [B, N]
    weights = total[:, None] / (counts.clamp(min=1) * masks.shape[1])
    return masks * weights[..., None].float()


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

    ranks = ranks_among(mask_noise(keys, draws, free.shape[1]), free[:, None])[
        :, source
    ]  # [B, N, C]
    drawn = uniform(fold(fold(keys, COUNT)[:, None], index // 2 if paired else index))  # [B, N]
    counts = (drawn * count_free).long() + 1
    counts = torch.where(second, count_free + 1 - counts, counts)
    ranks = torch.where(second[:, None], count_free[..., None] - 1 - ranks, ranks)
    masks = (ranks < counts[..., None]) & free[:, None]
    return masks, bound_weights(masks, count_free[:, 0])


def pair_weights(masks: Tensor, free: Tensor) -> Tensor:
    """Weights (F + 1) / (l N) of complementary pairs of masks [B, N, C]; see `pair_masks`."""
    counts = masks.sum(dim=2).clamp(min=1)  # [B, N]
    weights = (free.sum(dim=1)[:, None] + 1) / (counts * masks.shape[1])
    return masks * weights[..., None].float()


def pair_masks(keys: Tensor, free: Tensor, pairs: int) -> tuple[Tensor, Tensor]:
    """Complementary pairs of masks for the lower bound (ESPO, arXiv 2512.03759), N = 2 `pairs`.

    The first mask of a pair hides l ~ U{0, ..., F} random tokens, the second all others. A token
    weighs (F + 1) / (l N) in a mask of l tokens: each mask alone is unbiased for the bound, since
    an empty one is drawn with probability 1 / (F + 1). ESPO spreads the counts of a micro-batch
    evenly; here each row draws its own.
    """
    count_free = free.sum(dim=1)[:, None]  # F, [B, 1]
    ranks = ranks_among(mask_noise(keys, pairs, free.shape[1]), free[:, None])  # [B, pairs, C]
    index = torch.arange(pairs, device=free.device)
    drawn = uniform(fold(fold(keys, COUNT)[:, None], index))  # [B, pairs]
    first = ranks < (drawn * (count_free + 1)).long()[..., None]
    masks = torch.stack((first, ~first), dim=2).flatten(1, 2) & free[:, None]
    return masks, pair_weights(masks, free)


def spread_masks(keys: Tensor, free: Tensor, samples: int) -> tuple[Tensor, Tensor]:
    """Masks whose counts are spread evenly over 1, ..., F (BGPO, arXiv 2510.11683), N = `samples`.

    Mask n hides `spread_counts` random tokens, each mask its own. Every count is equally probable
    in each mask: the bound's estimate of `elbo_masks` with less variance between masks.
    """
    count_free = free.sum(dim=1)  # F, [B]
    first = (uniform(fold(keys, COUNT)) * count_free).long() + 1
    counts = spread_counts(first, count_free, samples)
    ranks = ranks_among(mask_noise(keys, samples, free.shape[1]), free[:, None])
    masks = (ranks < counts[..., None]) & free[:, None]
    return masks, bound_weights(masks, count_free)


def spread_counts(first: Tensor, total: Tensor, samples: int) -> Tensor:
    """Counts [B, N]: `first` + n F / N, rounded, modulo F = `total` [B], from 1 to F."""
    steps = torch.arange(samples, device=total.device) * (total[:, None] / samples)
    counts = (first[:, None] + steps).round().long()
    return (counts - 1) % total[:, None].clamp(min=1) + 1


def coupled_weights(masks: Tensor, times: Tensor) -> Tensor:
    """Weights [B, 3, C] of the masks of `coupled_masks`, drawn with probability `times` [B]."""
    weights = torch.stack((torch.ones_like(times), 1 / times, 1 / (1 - times)), dim=1) / 2
    return masks * weights[..., None].float()


def coupled_masks(keys: Tensor, free: Tensor) -> tuple[Tensor, Tensor]:
    """Everything; each token with probability t ~ U(0.2, 0.8); the rest (DiffuCoder, 2506.20639).

    A token's estimate is the mean of its score in the first and of 1 / t, or 1 / (1 - t), times
    its score in the second or third. DiffuCoder draws one t for a batch; here each row has its own.
    """
    times = 0.2 + 0.6 * uniform(fold(keys, COUNT))
    below = mask_noise(keys, 1, free.shape[1])[:, 0] < times[:, None]
    masks = torch.stack((free, below & free, ~below & free), dim=1)
    return masks, coupled_weights(masks, times)


def quadrature_weights(masks: Tensor, times: Tensor, shares: Tensor) -> Tensor:
    """Weights w / t of masks [B, N, C] at times t [N] with quadrature weights w [N] on [0, 1]."""
    return masks * (shares / times).float()[:, None]


def quadrature_masks(
    keys: Tensor,
    free: Tensor,
    nodes: int,
    samples: int,
    coupling: str = "independent",
    fixed_counts: bool = False,
    round_down: bool = False,
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
        round_down: With fixed counts: always round down, as GDPO's code does. More bias.
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
    noise = mask_noise(keys, draws, free.shape[1])
    if fixed_counts:
        rounding = uniform(fold(fold(keys, COUNT)[:, None], source))  # [B, N]
        if round_down:  # the small term keeps 0.5 * 12 from becoming 5
            rounding = torch.full_like(rounding, 1e-9)
        counts = (lower * free.sum(dim=1)[:, None] + rounding).floor()
        below = ranks_among(noise, free[:, None])[:, source] < counts[..., None]
    else:
        below = noise[:, source] < lower[:, None]
    masks = (below ^ mirrored[:, None]) & free[:, None]
    return masks, quadrature_weights(masks, times, share)


def strata_masks(keys: Tensor, free: Tensor, strata: int) -> tuple[Tensor, Tensor]:
    """Complementary masks: input j masks the j-th of k random, equally large strata.

    Each token is scored once, with all other strata visible. N = k inputs.
    """
    ranks = ranks_among(mask_noise(keys, 1, free.shape[1])[:, 0], free)
    stratum = ranks * strata // free.sum(dim=1, keepdim=True).clamp(min=1)  # [B, C]
    index = torch.arange(strata, device=free.device)[:, None]
    masks = (stratum[:, None] == index) & free[:, None]
    return masks, masks.float()
