"""Objectives, ratios, KL estimates and normalisations, by hand and against autograd."""

import math

import pytest
import torch
from torch import Tensor

from igpo_lightning.rl import group_advantages, policy_loss
from igpo_lightning.rl.kl import KL_ESTIMATES, kl_estimate
from igpo_lightning.rl.normalization import normalized_weights
from igpo_lightning.rl.objectives import (
    OBJECTIVES,
    RATIO_LENGTHS,
    TokenTerms,
    importance_ratio,
    register_objective,
)
from igpo_lightning.settings import objective

ALL = torch.ones(1, 2, dtype=torch.bool)


def logs(*rows: list[float]) -> Tensor:
    return torch.tensor(rows).log()


# ---- ratios -------------------------------------------------------------------------------------


def test_a_token_ratio_is_each_tokens_own():
    ratio = importance_ratio(logs([0.4, 0.1]), logs([0.2, 0.4]), ALL, "token")
    torch.testing.assert_close(ratio, torch.tensor([[2.0, 0.25]]))


def test_a_sequence_ratio_is_the_geometric_mean_of_counted_tokens():
    """Ratios 2, 8 and an uncounted 100: sqrt(2 * 8) = 4 at every token."""
    mask = torch.tensor([[True, True, False]])
    ratio = importance_ratio(logs([0.4, 0.8, 1.0]), logs([0.2, 0.1, 0.01]), mask, "sequence")
    torch.testing.assert_close(ratio, torch.full((1, 3), 4.0))


def test_a_sequence_ratio_over_the_full_length():
    """The released code: ratios 2 and 8 of C = 4 tokens, 16 ** (1 / 4) = 2."""
    mask = torch.tensor([[True, True, False, False]])
    new, old = logs([0.4, 0.8, 0.5, 0.5]), logs([0.2, 0.1, 0.25, 0.5])
    ratio = importance_ratio(new, old, mask, "sequence", "full")
    torch.testing.assert_close(ratio, torch.full((1, 4), 2.0))


def test_positions_that_do_not_count_may_hold_anything():
    """A token of probability 0 under both policies would be inf - inf."""
    mask = torch.tensor([[True, False]])
    new = torch.tensor([[math.log(0.5), -math.inf]], requires_grad=True)
    loss, _ = policy_loss(
        new,
        torch.tensor([[math.log(0.5), -math.inf]]),
        torch.tensor([1.0]),
        mask,
        ref_logp=torch.tensor([[0.0, math.nan]]),
        beta=0.1,
    )
    loss.backward()
    assert math.isfinite(loss.item())
    assert new.grad is not None
    assert new.grad[0, 1] == 0
    assert new.grad.isfinite().all()


# ---- the clipped objective ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ratio", "advantage", "gain", "clipped"),
    [
        (1.5, 1.0, 1.2, True),  # good and already likelier: no more than 1.2
        (0.5, 1.0, 0.5, False),  # good and less likely: full gradient
        (1.5, -1.0, -1.5, False),  # bad and likelier: full gradient
        (0.5, -1.0, -0.8, True),  # bad and already rarer: no more than 0.8
    ],
)
def test_the_four_cases_of_the_clip(ratio, advantage, gain, clipped):
    loss, stats = policy_loss(
        logs([0.5 * ratio]),
        logs([0.5]),
        torch.tensor([advantage]),
        torch.tensor([[True]]),
    )
    assert loss.item() == pytest.approx(-gain)
    assert stats["clip_fraction"].item() == float(clipped)
    assert stats["ratio_mean"].item() == pytest.approx(ratio)


def test_dapos_clip_leaves_more_room_above():
    """Ratio 1.25 with A = 1 is clipped at 1.2, not at 1.28; 0.7 with A = -1 is clipped at 0.8."""
    new, old = logs([0.625], [0.35]), logs([0.5], [0.5])
    advantages, mask = torch.tensor([1.0, -1.0]), torch.ones(2, 1, dtype=torch.bool)
    loss, stats = policy_loss(new, old, advantages, mask, clip_low=0.2, clip_high=0.28)
    assert loss.item() == pytest.approx(-(1.25 - 0.8) / 2)
    assert stats["clip_fraction"].item() == 0.5
    narrow, _ = policy_loss(new, old, advantages, mask)
    assert narrow.item() == pytest.approx(-(1.2 - 0.8) / 2)


def test_mean_over_counted_tokens_then_over_rows():
    """Row 1: ratios 1.1 and 0.9, A = 2, mean 2.0. Row 2: one counted ratio 1.0, A = -1.

    The loss is -(2.0 - 1.0) / 2 = -0.5, although row 1 has twice the tokens.
    """
    new, old = logs([0.55, 0.45], [0.5, 0.9]), logs([0.5, 0.5], [0.5, 0.1])
    mask = torch.tensor([[True, True], [True, False]])
    loss, stats = policy_loss(new, old, torch.tensor([2.0, -1.0]), mask)
    assert loss.item() == pytest.approx(-0.5)
    assert stats["ratio_mean"].item() == pytest.approx(1.0)
    assert stats["ratio_max"].item() == pytest.approx(1.1)


def test_the_sequence_ratio_clips_whole_rows():
    """Ratios 2 and 1/2: the geometric mean is 1, so nothing is clipped; token-wise one is."""
    new, old = logs([0.5, 0.25]), logs([0.25, 0.5])
    advantage = torch.tensor([1.0])
    loss, stats = policy_loss(new, old, advantage, ALL, ratio="sequence")
    assert loss.item() == pytest.approx(-1.0)
    assert stats["clip_fraction"].item() == 0.0
    loss, stats = policy_loss(new, old, advantage, ALL, ratio="token")
    assert loss.item() == pytest.approx(-(1.2 + 0.5) / 2)
    assert stats["clip_fraction"].item() == 0.5


def test_a_row_without_counted_tokens_adds_nothing():
    new, old = logs([0.5], [0.9]), logs([0.5], [0.1])
    mask = torch.tensor([[True], [False]])
    loss, _ = policy_loss(new, old, torch.tensor([1.0, 5.0]), mask)
    assert loss.item() == pytest.approx(-0.5)


def plain_loss(new, old, ref, advantages, mask, loss, ratio, kl, normalization) -> Tensor:
    """The formulas written out token by token; clip range [0.8, 1.3], beta 0.1, constant 5."""
    rows, total = len(new), int(mask.sum())
    value = torch.zeros((), dtype=torch.float64)
    for i in range(rows):
        counted = [k for k in range(new.shape[1]) if mask[i, k]]
        mean_log = sum(new[i, k] - old[i, k] for k in counted) / len(counted)
        share = {"sequence": len(counted) * rows, "batch": total, "constant": 5 * rows}
        for k in counted:
            gain = advantages[i] * new[i, k]
            if loss == "clip":
                rho = torch.exp(mean_log if ratio == "sequence" else new[i, k] - old[i, k])
                bounded = torch.clamp(rho, 0.8, 1.3)
                gain = torch.min(rho * advantages[i], bounded * advantages[i])
            d = ref[i, k] - new[i, k]
            penalty = {"k1": -d, "k2": d**2 / 2, "k3": torch.exp(d) - 1 - d}[kl]
            value = value - (gain - 0.1 * penalty) / share[normalization]
    return value


@pytest.mark.parametrize(
    ("loss", "ratio", "kl", "normalization"),
    [
        ("clip", "token", "k3", "sequence"),
        ("clip", "sequence", "k3", "sequence"),
        ("clip", "sequence", "k1", "batch"),
        ("clip", "token", "k2", "batch"),
        ("clip", "token", "k3", "constant"),
        ("log_likelihood", "token", "k2", "sequence"),
        ("log_likelihood", "token", "k1", "constant"),
    ],
)
def test_value_and_gradient_are_those_of_the_plain_formula(loss, ratio, kl, normalization):
    """Differentiated by autograd, both ways."""
    generator = torch.Generator().manual_seed(0)
    shape = (4, 6)

    def noise() -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    new = (0.6 * noise() - 2).requires_grad_()
    old, ref = new.detach() + 0.3 * noise(), new.detach() + 0.3 * noise()
    mask = torch.rand(shape, generator=generator) > 0.3
    mask[:, 0] = True
    advantages = torch.tensor([1.0, -1.0, 0.5, -0.25], dtype=torch.float64)
    ours, _ = policy_loss(
        new,
        old,
        advantages,
        mask,
        clip_high=0.3,
        ratio=ratio,
        ref_logp=ref,
        beta=0.1,
        kl=kl,
        loss=loss,
        normalization=normalization,
        normalization_length=5,
    )
    plain = plain_loss(new, old, ref, advantages, mask, loss, ratio, kl, normalization)
    torch.testing.assert_close(ours, plain, check_dtype=False, rtol=1e-5, atol=1e-6)
    (ours_grad,) = torch.autograd.grad(ours, new)
    (plain_grad,) = torch.autograd.grad(plain, new)
    torch.testing.assert_close(ours_grad, plain_grad, rtol=1e-5, atol=1e-7)


# ---- ratio-free objectives ----------------------------------------------------------------------


def test_log_likelihood_is_weighted_by_the_advantage_and_ignores_the_old_policy():
    """-(1 * mean(log 1/2, log 1/4) - 2 * mean(log 1/2, log 1/8)) / 2 = -(-1.5 + 4) log 2 / 2."""
    new = logs([0.5, 0.25], [0.5, 0.125])
    advantages = torch.tensor([1.0, -2.0])
    mask = torch.ones(2, 2, dtype=torch.bool)
    for old in (new, new - 3.0):
        loss, stats = policy_loss(new, old, advantages, mask, loss="log_likelihood")
        assert loss.item() == pytest.approx(-1.25 * math.log(2))
        assert stats["clip_fraction"].item() == 0.0


def test_wd1_adds_up_to_its_papers_loss():
    """sum over the group of (w- - w+) log p, with w+ and w- softmaxes of the advantages."""
    rewards = torch.tensor([[1.0, 0.0, 0.0]])
    new = logs([0.5], [0.25], [0.125])
    advantages = group_advantages(rewards, "wd1").flatten()
    loss, _ = policy_loss(
        new, new, advantages, torch.ones(3, 1, dtype=torch.bool), loss="log_likelihood"
    )
    up = [math.exp(a) for a in (2 / 3, -1 / 3, -1 / 3)]
    down = [math.exp(-a) for a in (2 / 3, -1 / 3, -1 / 3)]
    weights = [d / sum(down) - u / sum(up) for u, d in zip(up, down, strict=True)]
    expected = sum(w * math.log(p) for w, p in zip(weights, (0.5, 0.25, 0.125), strict=True))
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_on_policy_the_clipped_gradient_is_the_plain_policy_gradient():
    """At the old policy the ratio is 1, and its gradient that of the log-probability."""
    base = logs([0.5, 0.3], [0.2, 0.9])
    mask = torch.ones(2, 2, dtype=torch.bool)
    advantages = torch.tensor([0.75, -0.25])
    gradients = []
    for kind in ("clip", "log_likelihood"):
        new = base.clone().requires_grad_()
        loss, _ = policy_loss(new, base, advantages, mask, loss=kind)
        gradients.append(torch.autograd.grad(loss, new)[0])
    torch.testing.assert_close(gradients[0], gradients[1])


# ---- KL -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("k1", math.log(4.0)),  # log p - log q = log 4
        ("k2", math.log(4.0) ** 2 / 2),
        ("k3", 0.25 - 1 + math.log(4.0)),
    ],
)
def test_kl_estimates_at_p_over_q_of_four(kind, expected):
    estimate = kl_estimate(logs([0.8]), logs([0.2]), kind)
    assert estimate.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", ["k1", "k2", "k3"])
def test_kl_is_zero_at_the_reference(kind):
    assert kl_estimate(logs([0.3]), logs([0.3]), kind).item() == 0


@pytest.mark.parametrize("kind", ["k1", "k3"])
def test_k1_and_k3_average_to_the_divergence(kind):
    """Exactly, by enumeration: sum of p * estimate over three tokens is sum of p log(p / q)."""
    p, q = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.2, 0.5, 0.3])
    exact = (p * (p / q).log()).sum()
    torch.testing.assert_close((p * kl_estimate(p.log(), q.log(), kind)).sum(), exact)


def test_the_penalty_is_added_with_its_weight():
    """k3 at p = q / 2 for both tokens: 2 - 1 - log 2; times beta 0.5 on a loss of -1."""
    new = logs([0.25, 0.25])
    loss, stats = policy_loss(
        new, new, torch.tensor([1.0]), ALL, ref_logp=logs([0.5, 0.5]), beta=0.5
    )
    assert stats["kl"].item() == pytest.approx(1 - math.log(2))
    assert loss.item() == pytest.approx(-1 + 0.5 * (1 - math.log(2)))


def test_no_penalty_needs_no_reference():
    new = logs([0.25, 0.25])
    loss, stats = policy_loss(new, new, torch.tensor([1.0]), ALL, beta=0.5, kl="none")
    assert loss.item() == -1.0
    assert stats["kl"].item() == 0.0


def test_a_penalty_without_a_reference_is_a_mistake():
    new = logs([0.25, 0.25])
    with pytest.raises(ValueError, match=r"beta=0.5 needs ref_logp"):
        policy_loss(new, new, torch.tensor([1.0]), ALL, beta=0.5)


# ---- normalisation ------------------------------------------------------------------------------

# Row 1 counts one token, row 2 three of four.
MASK = torch.tensor([[True, False, False, False], [True, True, True, False]])


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("sequence", [[1 / 2, 0, 0, 0], [1 / 6, 1 / 6, 1 / 6, 0]]),
        ("batch", [[1 / 4, 0, 0, 0], [1 / 4, 1 / 4, 1 / 4, 0]]),
        ("constant", [[1 / 20, 0, 0, 0], [1 / 20, 1 / 20, 1 / 20, 0]]),
    ],
)
def test_weights_of_each_normalisation(kind, expected):
    """Two rows; the constant is 10 tokens, so 1 / 10 / 2."""
    weights = normalized_weights(MASK, kind, length=10)
    torch.testing.assert_close(weights, torch.tensor(expected))


@pytest.mark.parametrize("kind", ["sequence", "batch", "constant"])
def test_parts_with_the_totals_of_the_whole_are_the_whole(kind):
    """Micro-batches and ranks: weights do not depend on how the rows are divided."""
    whole = normalized_weights(MASK, kind, length=10)
    parts = [normalized_weights(MASK[i : i + 1], kind, length=10, rows=2, tokens=4) for i in (0, 1)]
    torch.testing.assert_close(torch.cat(parts), whole)


@pytest.mark.parametrize("kind", ["sequence", "batch", "constant"])
def test_where_nothing_counts_the_weights_are_zero(kind):
    weights = normalized_weights(torch.zeros(2, 3, dtype=torch.bool), kind, rows=0, tokens=0)
    assert weights.tolist() == [[0.0] * 3] * 2


def test_a_part_with_the_weights_of_its_batch_adds_up_to_the_loss_of_the_batch():
    """What training does with micro-batches: the losses of two halves sum to that of the whole."""
    generator = torch.Generator().manual_seed(0)
    new, old, ref = (torch.randn(2, 3, generator=generator) for _ in range(3))
    mask, advantages = torch.tensor([[True] * 3, [True, False, False]]), torch.tensor([1.0, -0.5])
    options = {"ratio": "sequence", "beta": 0.1, "normalization": "batch"}
    whole, _ = policy_loss(new, old, advantages, mask, ref_logp=ref, **options)
    weights = normalized_weights(mask, "batch")
    parts = [
        policy_loss(
            *(values[rows] for values in (new, old, advantages, mask)),
            ref_logp=ref[rows],
            weights=weights[rows],
            **options,
        )[0]
        for rows in (slice(0, 1), slice(1, 2))
    ]
    assert (parts[0] + parts[1]).item() == pytest.approx(whole.item(), rel=1e-6)


# ---- theory facts of the paper ------------------------------------------------------------------


def gradient_norm(right: int, group: int) -> float:
    """Norm of the policy gradient at the old policy, for K = `right` of a symmetric group."""
    new = torch.full((group, 1), 0.5).log().requires_grad_()
    rewards = torch.tensor([[1.0] * right + [0.0] * (group - right)])
    loss, _ = policy_loss(
        new,
        new.detach(),
        group_advantages(rewards).flatten(),
        torch.ones(group, 1, dtype=torch.bool),
    )
    (gradient,) = torch.autograd.grad(loss, new)
    # Symmetric groups: all right rows share one unit score direction, all wrong rows its opposite.
    return abs(float(gradient[:right].sum() - gradient[right:].sum()))


def test_the_gradient_scales_with_rho_one_minus_rho_and_is_largest_at_one_half():
    """rho (1 - rho) from each side: the right K rows add K/G (1 - K/G), the wrong ones as much."""
    norms = [gradient_norm(right, 8) for right in range(9)]
    expected = [2 * (k / 8) * (1 - k / 8) for k in range(9)]
    assert norms == pytest.approx(expected, abs=1e-6)
    assert max(range(9), key=norms.__getitem__) == 4


# ---- a new objective ----------------------------------------------------------------------------


def test_a_new_objective_is_one_function():
    @register_objective("squared")
    def squared(logp, old_logp, advantages, loss_mask, settings):
        ratio = importance_ratio(logp, old_logp, loss_mask, "token")
        return TokenTerms(ratio.square() * advantages, ratio, torch.zeros_like(loss_mask))

    try:
        new, old = logs([1.0]), logs([0.5])
        loss, _ = policy_loss(new, old, torch.tensor([1.0]), ALL[:, :1], loss="squared")
        assert loss.item() == pytest.approx(-4.0)
    finally:
        del OBJECTIVES["squared"]


@pytest.mark.parametrize(
    ("option", "match"),
    [
        (
            {"loss": "hope"},
            "objective 'hope' is unknown; use one of clip, linear_clip, cispo, sapo, vespo, log_l",
        ),
        ({"ratio": "word"}, "objective.ratio=word: use one of"),
        ({"normalization": "never"}, "objective.normalization=never: use one of"),
        ({"kl": "k9", "beta": 0.1}, "objective.kl=k9: use one of"),
        ({"ratio": "sequence", "ratio_length": "half"}, "objective.ratio_length=half: use one of"),
    ],
)
def test_unknown_names_are_named(option, match):
    new = logs([0.25, 0.25])
    with pytest.raises(ValueError, match=match):
        policy_loss(new, new, torch.tensor([1.0]), ALL, ref_logp=new, **option)


# ---- what single methods add --------------------------------------------------------------------

ONE, TWO = torch.ones(1, 1, dtype=torch.bool), torch.ones(1, 2, dtype=torch.bool)


def gain(ratio: float, advantage: float, **options: object) -> tuple[float, float]:
    """Loss of one token with a given ratio, and its derivative to log p."""
    logp = torch.tensor([[math.log(ratio)]], requires_grad=True)
    loss, _ = policy_loss(logp, torch.zeros(1, 1), torch.tensor([advantage]), ONE, **options)
    loss.backward()
    return -loss.item(), -logp.grad.item()


def test_the_dual_clip_bounds_what_a_bad_sample_can_cost():
    """Ratio 5, A = -1: the surrogate is -5 and grows with the ratio; dual-clipped it is -3."""
    assert gain(5.0, -1.0) == (pytest.approx(-5.0), pytest.approx(-5.0))
    assert gain(5.0, -1.0, clip_dual=3.0) == (pytest.approx(-3.0), 0.0)
    assert gain(2.0, -1.0, clip_dual=3.0) == (pytest.approx(-2.0), pytest.approx(-2.0))


def test_the_linearised_ratio_is_finite_far_below_the_old_policy():
    """log ratio -4: 1 + log ratio is -3, whose logarithm (the published code) is NaN."""
    value, slope = gain(math.exp(-4.0), 1.0, loss="linear_clip")
    assert (value, slope) == (pytest.approx(-3.0), pytest.approx(1.0))
    value, slope = gain(math.exp(-0.1), -1.0, loss="linear_clip")  # A < 0: the ratio itself
    assert value == pytest.approx(-math.exp(-0.1))
    assert slope == pytest.approx(-math.exp(-0.1))


def test_cispo_weighs_the_log_likelihood_and_keeps_the_gradient_of_clipped_tokens():
    """Ratio 3, bound 1.2: the gradient of log p is 1.2 A, where the surrogate's is 0."""
    assert gain(3.0, 1.0)[1] == 0.0
    assert gain(3.0, 1.0, loss="cispo")[1] == pytest.approx(1.2)
    assert gain(0.5, 1.0, loss="cispo")[1] == pytest.approx(0.5)


def test_sapo_is_the_policy_gradient_at_ratio_one():
    """4 / T sigmoid'(0) T = 1, whatever the temperature; at ratio 3 the gate has almost shut."""
    assert gain(1.0, 1.0, loss="sapo")[1] == pytest.approx(1.0)
    assert gain(1.0, -1.0, loss="sapo")[1] == pytest.approx(-1.0)
    assert 0 < gain(6.0, 1.0, loss="sapo")[1] < 0.2


def test_a_ratio_over_whole_likelihoods():
    """Ratios 2 and 4: their product is 8, with ratio_length=one."""
    ratio = importance_ratio(logs([0.4, 0.8]), logs([0.2, 0.2]), TWO, "sequence", "one")
    torch.testing.assert_close(ratio, torch.full((1, 2), 8.0))


def test_a_ratio_may_cover_tokens_that_do_not_count():
    """The released code: a dropped hint has no term, but its log p moves the row's ratio."""
    logp = torch.zeros(1, 2, requires_grad=True)
    kept = torch.tensor([[True, False]])
    for ratio_mask, slope in ((None, 0.0), (TWO, -0.5)):
        logp.grad = None
        loss, _ = policy_loss(
            logp, torch.zeros(1, 2), torch.ones(1), kept, ratio="sequence", ratio_mask=ratio_mask
        )
        loss.backward()
        assert logp.grad[0, 1].item() == slope


def test_a_sequences_divergence_is_that_of_the_summed_log_probabilities():
    """Differences 1 and 2: k2 of the sequence is 9 / 2, of the tokens 1/2 + 4/2."""
    logp, ref = torch.tensor([[1.0, 2.0]]), torch.zeros(1, 2)

    def penalty(**options: object) -> float:
        _, stats = policy_loss(
            logp, logp, torch.zeros(1), TWO, ref_logp=ref, beta=1.0, kl="k2", **options
        )
        return stats["kl"].item()

    assert penalty() == pytest.approx((1 / 2 + 4 / 2) / 2)
    assert penalty(kl_level="sequence") == pytest.approx(9 / 2 / 2)  # a token
    assert penalty(kl_level="sequence", kl_normalization="sum") == pytest.approx(9 / 2)


def test_a_penalty_may_refer_to_the_old_policy():
    logp, old = torch.tensor([[1.0]]), torch.tensor([[0.5]])
    _, stats = policy_loss(
        logp, old, torch.zeros(1), ONE, beta=1.0, kl="k1", kl_target="old", ref_logp=None
    )
    assert stats["kl"].item() == pytest.approx(0.5)


def test_k1_as_a_loss_has_no_expected_gradient():
    """The gradient of sum p log(p/q) is not that of the sample mean of log p - log q: it is 0."""
    logits = torch.tensor([0.3, -0.2, 1.0], requires_grad=True)
    logp, q = logits.log_softmax(0), torch.tensor([0.2, 0.3, 0.5])
    (kl_estimate(logp, q.log(), "k1") * logp.detach().exp()).sum().backward()
    torch.testing.assert_close(logits.grad, torch.zeros(3), atol=1e-6, rtol=0)


def test_micro_batches_weigh_alike_whatever_they_hold():
    """Rows of 2, 1 and 3 tokens one a micro-batch: each row weighs 1/3."""
    mask = torch.tensor([[True, True, False], [True, False, False], [True, True, True]])
    weights = normalized_weights(mask, "micro_batch", micro_batch=1)
    torch.testing.assert_close(weights.sum(dim=1), torch.full((3,), 1 / 3))
    weights = normalized_weights(mask[:2], "micro_batch", micro_batch=2)
    torch.testing.assert_close(weights, mask[:2] / 3)


def test_a_rows_mean_may_divide_by_more_tokens_than_count():
    """Two of four live tokens count: each weighs 1/4 of the row."""
    live, kept = torch.ones(1, 4), torch.tensor([[True, True, False, False]])
    weights = normalized_weights(kept, denominators=live)
    torch.testing.assert_close(weights, torch.tensor([[0.25, 0.25, 0.0, 0.0]]))


def test_the_settings_know_every_estimate_and_length():
    assert (*KL_ESTIMATES, "none") == objective.KL_ESTIMATES
    assert tuple(RATIO_LENGTHS) == objective.RATIO_LENGTHS


# ---- guards against stale samples, and VESPO -----------------------------------------------------


def test_bad_rows_that_the_policy_has_left_gain_nothing():
    """Mean log(old / new): ln 4, ln 4, ln 2. The limit lies between: the bad row of ln 4 goes."""
    old = logs([0.8, 0.8], [0.8, 0.8], [0.8, 0.8])
    new = logs([0.2, 0.2], [0.2, 0.2], [0.4, 0.4]).requires_grad_()
    advantages = torch.tensor([-1.0, 1.0, -1.0])
    loss, _ = policy_loss(
        new,
        old,
        advantages,
        ALL.expand(3, -1),
        ref_logp=old,
        off_policy_limit=1.0,
        clip_low=1.0,
    )
    # Means over three rows: ratios 1/4 and 1/2 of advantages 1 and -1.
    assert loss.item() == pytest.approx(-(0.25 - 0.5) / 3)
    loss.backward()
    assert new.grad[0].tolist() == [0, 0]
    assert bool((new.grad[1:] != 0).all())


def test_a_weighted_penalty_is_unbiased_under_the_new_policy():
    """Samples of `old`, enumerated: the mean of ratio times k3 is KL(new || reference)."""
    old, new = torch.tensor([0.7, 0.2, 0.1]), torch.tensor([0.2, 0.3, 0.5])
    reference = torch.tensor([0.1, 0.1, 0.8])
    every = torch.ones(3, 1, dtype=torch.bool)
    columns = [values.log()[:, None] for values in (new, old, reference)]
    _, stats = policy_loss(
        columns[0],
        columns[1],
        torch.zeros(3),
        every,
        ref_logp=columns[2],
        beta=1.0,
        kl_weighted=True,
    )
    exact = (new * (new / reference).log()).sum()
    torch.testing.assert_close((old * stats["token_kl"][:, 0]).sum(), exact)


def test_vespo_weighs_a_row_by_its_whole_ratio():
    """w = 2 * 2 and 1/2 * 1/2; phi(w) = w^2 e^(3 - 3w) where A > 0, w^3 e^(2 - 2w) where A < 0."""
    old = logs([0.2, 0.2], [0.4, 0.4])
    new = logs([0.4, 0.4], [0.2, 0.2]).requires_grad_()
    loss, _ = policy_loss(
        new, old, torch.tensor([1.0, -1.0]), ALL.expand(2, -1), loss="vespo", normalization="batch"
    )
    weights = (16 * math.exp(3 - 12), math.exp(2 - 0.5) / 64)
    expected = -(weights[0] * 2 * math.log(0.4) - weights[1] * 2 * math.log(0.2)) / 4
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    loss.backward()
    torch.testing.assert_close(
        new.grad, torch.tensor([[-weights[0] / 4] * 2, [weights[1] / 4] * 2])
    )
