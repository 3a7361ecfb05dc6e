"""Advantages, weights, losses and gradients of public code, method by method.

Every number, shape and case comes from ../shared/golden/methods.
"""

import re
from dataclasses import replace

import pytest
import torch
from golden_methods import EOS_ID, MASK_ID, Case, cases, close, estimated, load, token_logps
from numpy.polynomial.legendre import leggauss
from torch import Tensor

from igpo_lightning.diffusion.block_masks import every_block_counts, every_block_weights
from igpo_lightning.diffusion.estimators import (
    bound_weights,
    coupled_weights,
    pair_weights,
    quadrature_weights,
    spread_counts,
)
from igpo_lightning.diffusion.forward_process import live_mask
from igpo_lightning.diffusion.ordered_masks import autoregressive_masks, merged_step_masks
from igpo_lightning.diffusion.plain import Draws, plain_denoise
from igpo_lightning.rl import entropy_filter, group_advantages, policy_loss
from igpo_lightning.rl.advantages import accuracy_within, summed_advantages
from igpo_lightning.rl.filters import batch_entropy_filter
from igpo_lightning.rl.injection import needs_help, plan_replacements
from igpo_lightning.rl.kl import kl_estimate
from igpo_lightning.rl.normalization import normalized_weights
from igpo_lightning.settings import InpaintConfig, ObjectiveConfig

pytestmark = pytest.mark.shared

# What diffu_grpo's public code maximises; the other descendants of d1 differ in single fields.
D1 = {"clip_low": 0.5, "clip_high": 0.5, "normalization": "micro_batch"}


def live(case: Case) -> Tensor:
    mask = live_mask(case["completion_ids"], EOS_ID)
    assert torch.equal(mask, case["completion_mask"].bool())
    return mask


def everywhere(case: Case) -> Tensor:
    return torch.ones_like(case["completion_ids"], dtype=torch.bool)


def wanted(logits: Tensor) -> Tensor:
    return logits.clone().requires_grad_()


# ---- IGPO as released ---------------------------------------------------------------------------

RELEASED = {
    "ratio": "sequence",
    "ratio_length": "full",
    "beta": 0.01,
    "normalization": "micro_batch",
}


@pytest.mark.parametrize("prefix", [p for p in cases("igpo", "loss") if p.count(".") == 1])
def test_igpo_loss(prefix):
    """As released; hint tokens that the filter drops get gradient through the ratio."""
    case = load("igpo", prefix)
    every = everywhere(case)
    mask = entropy_filter(case["old_entropy"], case["hint_mask"], every, 0.2, round_down=True)
    assert torch.equal(mask, case["token_mask_after_entropy_filter"])
    logits = None
    if case.has("logits_new", case.inputs):
        logits = wanted(case["logits_new"])
        logp = token_logps(logits, case["completion_ids"])
        logp.retain_grad()
        close(logp, case["new_logps"])
    else:
        logp = wanted(case["new_logps"])
    loss, stats = policy_loss(
        logp,
        case["old_logps"],
        case["advantages"],
        mask,
        ref_logp=case["ref_logps"],
        ratio_mask=every,
        **RELEASED,
    )
    close(loss, case["loss"])
    close(stats["kl"], case["metric.kl"])
    loss.backward()
    close(logp.grad, case["grad_new_logps"])
    if logits is not None:
        close(logits.grad, case["grad_logits_new"])


@pytest.mark.parametrize("prefix", [p for p in cases("igpo", "loss") if "token_ratio" in p])
def test_igpo_loss_with_token_ratios(prefix):
    case = load("igpo", prefix)
    mask = case["token_mask_after_entropy_filter"]
    logp = wanted(case["new_logps"])
    options = RELEASED | {"ratio": "token", "ratio_length": "counted"}
    loss, _ = policy_loss(
        logp, case["old_logps"], case["advantages"], mask, ref_logp=case["ref_logps"], **options
    )
    close(loss, case["loss"])
    loss.backward()
    close(logp.grad, case["grad_new_logps"])


@pytest.mark.parametrize("prefix", cases("igpo", "triggered"))
def test_igpo_replacement(prefix):
    """Trigger, replaced rows, hints that come with them, and advantages, from the recorded rewards.

    Of more right samples than may replace others the code takes random ones; the drawing is
    recorded. Here the first ones are taken, so they are put first.
    """
    case = load("igpo", prefix)
    groups = (-1, int(case["num_generations"]))
    correct = {k: case[f"reward_correct_{k}"].view(groups) == 3 for k in ("plain", "hinted")}
    rewards = {
        k: (case[f"reward_correct_{k}"] + case[f"reward_format_{k}"]).view(groups)
        for k in ("plain", "hinted")
    }
    triggered = needs_help(InpaintConfig(scope="batch"), correct["plain"])
    assert bool(triggered.any()) == bool(triggered.all()) == bool(case["triggered"])
    completions = {k: case[f"completions_{k}"].clone().unflatten(0, groups) for k in rewards}
    hints = case["hint_mask_hinted"].unflatten(0, groups)
    shown = torch.zeros_like(hints)
    order = torch.arange(groups[1]).expand(correct["plain"].shape).clone()
    if case.has("randperm_of_right_ones", case.inputs):
        right = correct["hinted"][0].nonzero().flatten()
        drawn = right[case["randperm_of_right_ones"]]
        wrong = (~correct["hinted"][0]).nonzero().flatten()
        order[0] = torch.cat((drawn, wrong))
    ranked = correct["hinted"].gather(1, order)
    plan = plan_replacements(ranked, 0.5, correct["plain"]) if bool(case["triggered"]) else []
    for group, place, target in plan:
        source = order[group, place]
        completions["plain"][group, target] = completions["hinted"][group, source]
        shown[group, target] = hints[group, source]
        rewards["plain"][group, target] = rewards["hinted"][group, source]
    assert torch.equal(completions["plain"].flatten(0, 1), case["completion_ids"])
    assert torch.equal(shown.flatten(0, 1), case["hint_mask"])
    close(group_advantages(rewards["plain"]).flatten(), case["advantages"])


# ---- diffu-GRPO, wd1 ----------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", cases("diffu_grpo", "loss"))
def test_diffu_grpo(prefix):
    case = load("diffu_grpo", prefix)
    mask, tokens = live(case), case["completion_ids"]
    advantages = group_advantages(case.rewards).flatten()
    close(advantages, case["advantages"])
    assert bool(case.masked.all())
    logits = wanted(case["logits_new"])
    logp = token_logps(logits, tokens)
    logp.retain_grad()
    old, ref = (token_logps(case[f"logits_{name}"], tokens) for name in ("old", "ref"))
    for name, values in (("new", logp), ("old", old), ("ref", ref)):
        close(values, case[f"{name}_logps"])
    loss, _ = policy_loss(logp, old, advantages, mask, ref_logp=ref, beta=0.04, **D1)
    close(loss, case["loss"])
    loss.backward()
    close(logp.grad, case["grad_new_logps"])
    close(logits.grad, case["grad_logits_new"])


@pytest.mark.parametrize("prefix", cases("wd1", "loss"))
def test_wd1(prefix):
    """The softmax runs over the rows of a micro-batch, which as published is one group.

    Two groups in a micro-batch have the softmax over both: of the centred rewards, since those of
    a group have mean 0 and centring them again changes nothing.
    """
    case = load("wd1", prefix)
    centred = group_advantages(case.rewards)
    close(centred.flatten(), case["advantages"])
    kind = "wd1_positive" if prefix.startswith("pos_only") else "wd1"
    advantages = group_advantages(centred.flatten()[None], kind).flatten()
    logits = wanted(case["logits_new"])
    logp = token_logps(logits, case["completion_ids"])
    logp.retain_grad()
    loss, _ = policy_loss(
        logp, logp.detach(), advantages, live(case), loss="log_likelihood", normalization="sum"
    )
    close(loss, case["loss"])
    loss.backward()
    close(logp.grad, case["grad_new_logps"])
    close(logits.grad, case["grad_logits_new"])


# ---- SPG ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", cases("spg", "loss"))
def test_spg(prefix):
    case = load("spg", prefix)
    mask, tokens = live(case), case["completion_ids"]
    counted = case.masked & mask[:, None]
    assert torch.equal(counted, case["counted"])
    advantages = group_advantages(case.rewards).flatten()
    close(advantages, case["advantages"])
    assert torch.equal(advantages > 0, case["positive"])
    share = {"elbo": 0.0, "eubo": 1.0, "mix": 0.5}[prefix.split(".")[-2]]
    lengths = mask.sum(dim=1)
    weights = bound_weights(counted, lengths)
    logits = wanted(case["logits_new"])
    logp = token_logps(logits, tokens[:, None])

    def bound(part: float, beta: float) -> Tensor:
        shares = torch.full(lengths.shape, part)
        return estimated(logp, weights, upper_share=shares, upper_beta=beta).sum(dim=1) / lengths

    # The folder does not record beta, which is 1, 1.5 or 2 in the public scripts.
    betas = (1.0, 1.5, 2.0)
    beta = min(betas, key=lambda b: float((bound(1.0, b) - case["bound_eubo"]).abs().sum()))
    for name, part in (("elbo", 0.0), ("eubo", 1.0), ("mix", 0.5)):
        close(bound(part, beta), case[f"bound_{name}"])
    estimate = estimated(logp, weights, upper_share=(advantages < 0) * share, upper_beta=beta)
    close(estimate.sum(dim=1) / lengths, case["per_seq_logps"])
    loss, _ = policy_loss(
        estimate,
        estimate.detach(),
        advantages,
        mask,
        loss="log_likelihood",
        normalization="micro_batch",
    )
    close(loss, case["loss"])
    loss.backward()
    close(logits.grad, case["grad_logits_new"])


# ---- ESPO, coupled GRPO, GDPO -------------------------------------------------------------------


@pytest.mark.parametrize("prefix", cases("espo", "grad_elbo_new"))
def test_espo(prefix):
    case = load("espo", prefix)
    every, tokens = everywhere(case), case["completion_ids"]
    advantages = group_advantages(case.rewards, "loo").flatten()
    close(advantages, case["advantages"])
    masks = case.masked.flatten(0, 1).transpose(0, 1)  # [mc, 2, B, C] -> [B, N, C]
    shares = case["mask_share_x_over_L_plus_1"]  # [mc, B]
    hidden = (shares * (tokens.shape[1] + 1)).round().long()
    assert torch.equal(masks[:, ::2].sum(dim=2), hidden.T)
    assert torch.equal(masks[:, ::2], ~masks[:, 1::2])
    weights = pair_weights(masks, every)

    def elbo(logits: Tensor) -> Tensor:
        logp = token_logps(logits, tokens).flatten(0, 1).transpose(0, 1)
        return estimated(logp, weights)

    logits = wanted(case["logits_new"])
    new = elbo(logits)
    close(new.sum(dim=1), case["elbo_new"])

    def other(name: str) -> Tensor:
        """Recorded as logits, or as one number a row: any tokens that sum to it will do."""
        if case.has(f"logits_{name}", case.inputs):
            return elbo(case[f"logits_{name}"])
        return (case[f"elbo_{name}"] / tokens.shape[1])[:, None].expand(tokens.shape)

    old, ref = other("old"), other("ref")
    close(old.sum(dim=1), case["elbo_old"])
    close(ref.sum(dim=1), case["elbo_ref"])
    loss, stats = policy_loss(
        new,
        old,
        advantages,
        every,
        ref_logp=ref,
        ratio="sequence",
        ratio_length="full",
        beta=1e-3,
        kl="k2",
        kl_level="sequence",
    )
    close(stats["token_ratio"][:, 0], case["ratio"])
    close(stats["kl"], case["metric.kl"])
    close(loss, case["loss"])
    loss.backward()
    close(logits.grad, case["grad_logits_new"])


@pytest.mark.parametrize("kind", ["k2", "k3"])
def test_espos_kl_estimates_and_their_gradients(kind):
    case = load("espo", "kl.")
    logp = wanted(case["log_probs"])
    estimate = kl_estimate(logp, case["log_probs_base"], kind)
    close(estimate, case[kind])
    estimate.sum().backward()
    close(logp.grad, case[f"{kind}_grad"])


@pytest.mark.parametrize("prefix", cases("coupled_grpo", "loss"))
def test_coupled_grpo(prefix):
    case = load("coupled_grpo", prefix)
    mask, tokens = live(case), case["completion_ids"]
    advantages = group_advantages(case.rewards, "loo").flatten()
    close(advantages, case["advantages"])
    masks = (case["canvas_new"][..., -tokens.shape[1] :] == MASK_ID).transpose(0, 1)
    assert torch.equal(masks[:, 1], case["masked_in_second"])
    assert bool((masks[:, 0] & (masks[:, 1] ^ masks[:, 2])).all())
    time = 1 / case["weights"][1]
    weights = coupled_weights(masks, time.expand(len(tokens)))
    logits = wanted(case["logits_new_shifted"])
    logp = estimated(token_logps(logits, tokens).transpose(0, 1), weights)
    logp.retain_grad()
    old = estimated(token_logps(case["logits_old_shifted"], tokens).transpose(0, 1), weights)
    close(logp, case["new_logps"])
    close(old, case["old_logps"])
    loss, _ = policy_loss(logp, old, advantages, mask, ref_logp=case["ref_logps"], beta=0.01, **D1)
    close(loss, case["loss"])
    loss.backward()
    close(logp.grad, case["grad_new_logps"])
    close(logits.grad, case["grad_logits_new_shifted"])


@pytest.mark.parametrize("prefix", cases("gdpo", "loss"))
def test_gdpo(prefix):
    """Old and new policy are scored on masks of their own; nothing in the loss depends on that."""
    case = load("gdpo", prefix)
    every, tokens = everywhere(case), case["completion_ids"]
    advantages = group_advantages(case.rewards).flatten()
    close(advantages, case["advantages"])
    masks = case["canvas_new"][..., -tokens.shape[1] :] == MASK_ID  # [nodes, B, K, C]
    nodes, _, samples, length = masks.shape
    masks = masks.permute(1, 2, 0, 3).flatten(1, 2)
    counts = masks.sum(dim=2)
    if prefix.startswith("mc"):  # a node is a random number of tokens, of equal weight
        weights = bound_weights(masks, every.sum(dim=1))
    else:
        points, node_weights = leggauss(nodes)
        close(torch.tensor(points), case["points_on_minus1_1"])
        close(torch.tensor(node_weights), case["weights_on_minus1_1"])
        times = torch.tensor((points + 1) / 2).repeat(samples)
        assert torch.equal(counts, (times * length).floor().long().expand_as(counts))
        shares = torch.tensor(node_weights / 2).repeat(samples) / samples
        weights = quadrature_weights(masks, times, shares)
    logits = wanted(case["logits_new"])
    logp = token_logps(logits, tokens[:, None]).permute(1, 2, 0, 3).flatten(1, 2)
    new = estimated(logp, weights)
    close(new.sum(dim=1), case["elbo_new"])
    with_penalty = case.has("elbo_ref", case.outputs)

    def spread(name: str) -> Tensor:
        return (case[name][0] / length)[:, None].expand(tokens.shape)

    def loss_at(beta: float) -> tuple[Tensor, dict[str, Tensor]]:
        return policy_loss(
            new,
            spread("elbo_old"),
            advantages,
            every,
            ref_logp=spread("elbo_ref") if with_penalty else None,
            ratio="sequence",
            ratio_length="full",
            clip_low=0.5,
            clip_high=0.5,
            beta=beta,
            kl_level="sequence",
            kl_normalization="sum",
        )

    beta = 0.0
    if with_penalty:  # its weight is not recorded: take it from the loss, and test the gradient
        free, one = loss_at(0.0)[0], loss_at(1.0)
        beta = float((case["loss"] - free) / one[1]["kl"])
    loss, _ = loss_at(beta)
    close(loss, case["loss"])
    loss.backward()
    close(logits.grad, case["grad_logits_new"])


# ---- TraceRL ------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", cases("tracerl", "loss"))
def test_tracerl(prefix):
    """Every slice of a response is a row; the loss knows no other."""
    case = load("tracerl", prefix)
    length = case["responses_padded"].shape[1]
    tokens, scored = case["labels"][:, -length:], case["scored"][:, -length:]
    logits = wanted(case["logits_new"])
    logp = token_logps(logits, tokens)
    old = token_logps(case["logits_old"], tokens)
    for name, values in (("new", logp), ("old", old)):
        recorded = case[f"{name}_logps_at_scored"][:, -length:]
        close(values[scored], recorded[scored])
    loss, stats = policy_loss(
        logp,
        old,
        case["advantage_of_row"],
        scored,
        ratio="token",
        beta=0.01,
        kl="k1" if prefix.endswith("_k1.") else "k3",
        kl_target="old",
        kl_normalization="sum",
    )
    close(loss, case["loss"])
    close(loss - 0.01 * stats["kl"], case["loss_without_kl"])
    loss.backward()
    close(logits.grad, case["grad_logits_new"])


@pytest.mark.parametrize(
    "prefix", [prefix for prefix in cases("tracerl", "loss") if prefix.startswith("shrink")]
)
def test_tracerls_slices(prefix):
    """Masks and scored tokens of every slice, in order; a slice without scored tokens is no row."""
    case = load("tracerl", prefix)
    tokens, steps = case["responses_padded"], case["step_map"]
    shrink, length = int(case["shrink"]), tokens.shape[1]
    everything = torch.ones_like(tokens, dtype=torch.bool)
    slices = -(-int(steps.max() + 1) // shrink)
    masks, weights = merged_step_masks(steps, everything, slices, shrink)
    padded = tokens == 0
    after = padded.cumsum(dim=1)  # the first `post_num` pads are scored, too
    counted = ~padded | (after <= int(case["post_num"]))
    scored = ((weights > 0) & counted[:, None]).flatten(0, 1)
    kept = scored.any(dim=1)
    assert torch.equal(scored[kept], case["scored"][:, -length:])
    assert torch.equal(masks.flatten(0, 1)[kept], case["canvas"][:, -length:] == MASK_ID)


def test_tracerls_advantages():
    """The population z-score; groups with less than 0.2 or more than 0.8 right are left out."""
    case = load("tracerl", "zscore.")
    correct = case["correct"]
    close(group_advantages(correct, "z_score"), case["advantage"])
    share = correct.double().mean(dim=1)
    kept = accuracy_within(correct, 0.2, 0.8)
    assert torch.equal(kept, (share >= 0.2) & (share <= 0.8))


# ---- JustGRPO -----------------------------------------------------------------------------------


def test_justgrpo_advantages():
    case = load("justgrpo")
    whole = group_advantages(case["rewards_two_chunks"][None], "std")[0]
    close(whole, case["advantages_two_chunks"])
    name = next(name for name in case.inputs if name.startswith("layout.rewards_sample_major_"))
    samples, prompts = map(int, name.rpartition("_")[2].split("x"))
    groups = case[name].view(samples, prompts).T  # the flat order is sample first
    close(group_advantages(groups, "std").T.flatten(), case["layout.advantages"])


def test_justgrpo_scores_each_token_with_the_later_ones_masked():
    case = load("justgrpo")
    tokens = case["completion_ids"]
    rows, length = tokens.shape
    masks, weights = autoregressive_masks(
        torch.arange(rows), torch.ones_like(tokens, dtype=torch.bool), None
    )
    canvas = case["canvas"][..., -length:].transpose(0, 1)  # [C, B, C] -> [B, N, C]
    assert torch.equal(masks, canvas == MASK_ID)
    assert torch.equal(weights, torch.eye(length).expand(rows, -1, -1))
    close(token_logps(case["logits_new_own_position"], tokens), case["logps"])


def test_justgrpo_loss():
    """The ratio of the one update is 1: no clip, no penalty. The mean is over rows that learn."""
    case = load("justgrpo")
    tokens = case["completion_ids"]
    rows, length = tokens.shape
    advantages = case["advantages_two_chunks"][:rows]
    every = torch.ones_like(tokens, dtype=torch.bool)
    valid = int((case["advantages_two_chunks"] != 0).sum())
    assert valid == int(case["valid_samples"])
    weights = normalized_weights(every, "constant", length=length, rows=valid + 1e-5)
    logits = wanted(case["logits_new_own_position"])
    logp = token_logps(logits, tokens)
    logp.retain_grad()
    loss, _ = policy_loss(logp, logp.detach(), advantages, every, ratio="token", weights=weights)
    close(loss, case["loss_backpropagated"])
    loss.backward()
    close(-logp.grad, case["coefficient_of_each_logp"])
    close(logits.grad, case["grad_logits_new_own_position"])


class Recorded:
    """Stands for a model: gives the logits of each step, and notes what was masked."""

    mask_token_id = MASK_ID

    def __init__(self, logits: Tensor) -> None:
        self.logits, self.masked = logits, []

    def __call__(self, ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        logits = self.logits[len(self.masked)]
        prompt = ids.shape[1] - logits.shape[1]
        self.masked.append(ids[:, prompt:] == MASK_ID)
        return torch.nn.functional.pad(logits, (0, 0, prompt, 0))


@pytest.mark.parametrize("prefix", cases("justgrpo", "completion"))
def test_justgrpo_rollouts(prefix):
    """Strictly left to right: what is masked at each step, and each token, from the same noise."""
    case = load("justgrpo", prefix)
    steps, rows, length, _ = case["logits"].shape
    noise = case["uniform"].double() if case.has("uniform", case.inputs) else None
    draws = Draws(
        gumbel=lambda step, vocab_size: -(-noise[step].log()).log(),
        uniform=lambda step: torch.zeros(rows, length),
    )
    drawn = re.search(r"\.t([0-9.]+)\.$", prefix)  # the temperature is in the name
    model = Recorded(case["logits"])
    prompts = torch.full((rows, 2), EOS_ID)
    temperature = 0.0 if drawn is None else float(drawn[1])
    made, ran = plain_denoise(model, prompts, length, 1, length, draws, temperature)
    assert ran == steps
    assert torch.equal(torch.stack(model.masked), case["masked_at_step"])
    assert torch.equal(made, case["completion"])


# ---- CJ-GRPO, BGPO, EBPO (DARE) -----------------------------------------------------------------

DARE = {"clip_dual": 3.0}


def test_cj_grpo():
    """Every step of every row is a row of the loss: all have equally many tokens."""
    case = load("dare_cj_grpo")
    tokens, committed = case["completion_ids"], case["unmasked_at_step"]  # [B, S, C]
    _, steps, length = committed.shape
    every = torch.ones_like(tokens, dtype=torch.bool)
    masks, weights = merged_step_masks(committed.long().argmax(dim=1), every, steps, 1)
    assert torch.equal(weights > 0, committed)
    assert torch.equal(masks, (case["canvas"][..., -length:] == MASK_ID).transpose(0, 1))
    advantages = group_advantages(case["rewards"][None], "std", 1e-6).flatten()
    close(advantages, case["advantages"][:, 0])
    logits = wanted(case["logits_new"])  # [S, B, C, V]
    logp = token_logps(logits, tokens).transpose(0, 1)
    logp.retain_grad()
    close(logp[committed], case["new_logps"][committed])
    close((logp * committed).sum(dim=1), case["collapsed_new_logps"])
    loss, _ = policy_loss(
        logp.flatten(0, 1),
        case["old_logps"].flatten(0, 1),
        advantages.repeat_interleave(steps),
        committed.flatten(0, 1),
        **DARE,
    )
    close(loss, case["loss"])
    loss.backward()
    close(logp.grad[committed], case["grad_new_logps"][committed])
    close(logits.grad, case["grad_logits_new"])


def test_bgpo():
    """Every mask of a row is a row of the loss, with a ratio of its own."""
    case = load("dare_bgpo")
    tokens = case["completion_ids"]
    rows, samples, length = case["masked"].shape
    valid = case["attention_mask"][:, -length:].bool()
    masks = case["masked"]
    assert torch.equal(masks, case.masked)
    total = valid.sum(dim=1)
    hidden = masks.sum(dim=2)
    assert torch.equal(hidden, (case["p_mask"] * total[:, None]).round().long())
    assert torch.equal(spread_counts(hidden[:, 0], total, samples), hidden)
    weights = bound_weights(masks, total) * samples  # of each mask alone
    scores = (token_logps(case["logits_new"], tokens).transpose(0, 1) * weights).flatten(0, 1)
    close(scores.sum(dim=1).view(rows, samples) / length, case["elbo_over_C_new"])
    counted = valid.repeat_interleave(samples, dim=0)

    def tokens_of(elbo_over_length: Tensor) -> Tensor:
        """Scores [B N, C] that sum to a recorded estimate over the counted tokens."""
        each = elbo_over_length * length / total[:, None]
        return each.flatten()[:, None].expand(scores.shape)

    def loss_of(logp: Tensor) -> Tensor:
        return policy_loss(
            logp,
            tokens_of(case["elbo_over_C_old"]),
            case["advantages"].repeat_interleave(samples),
            counted,
            loss="linear_clip",
            ratio="sequence",
            ratio_length="full",
            normalization="micro_batch",
            **DARE,
        )[0]

    close(loss_of(scores), case["loss"])
    elbo = wanted(case["elbo_over_C_new"])
    loss_of(tokens_of(elbo)).backward()
    close(elbo.grad, case["grad_elbo_over_C_new"])


def ebpo_blocks(case: Case, origin: str) -> tuple[Tensor, Tensor, Tensor]:
    """Masks [B, N, W], their published shares, and valid tokens [B, W], so that blocks begin at 0.

    Blocks are counted from the response's first token, or from the prompt's.
    """
    masks, shares = case[f"{origin}.masked"], case[f"{origin}.p_mask"]
    length = masks.shape[2]
    valid = case["attention_mask"][:, -length:].bool()
    if origin == "response":
        return masks, shares, valid
    prompt = case["attention_mask"][:, :-length].sum(dim=1)  # without its padding
    place = prompt[:, None] + torch.arange(length)  # [B, C]
    wide = int(prompt.max()) + length
    spread = torch.zeros(*masks.shape[:2], wide)
    index = place[:, None].expand(masks.shape)
    moved, weights = spread.scatter(2, index, masks.float()), spread.scatter(2, index, shares)
    tokens = torch.zeros(len(masks), wide).scatter(1, place, valid.float())
    return moved.bool(), weights, tokens.bool()


def block_length_of(shares: Tensor, valid: Tensor) -> int:
    """Tokens of a block, which the folder does not record: a share is a count over them."""
    largest = valid.sum(dim=1).max()
    fits = [
        size
        for size in range(2, int(largest) + 1)
        if torch.equal(
            every_block_weights(shares > 0, valid, size) * shares.shape[1],
            torch.where(shares > 0, 1 / shares, 0.0),
        )
    ]
    return fits[0]


@pytest.mark.parametrize("origin", ["response", "global"])
def test_ebpos_masks(origin):
    """Their shares, and counts that are spread evenly over a row's masks and blocks.

    The start of the times is not recorded: some start has to give all counts of a row.
    """
    masks, shares, valid = ebpo_blocks(load("dare_ebpo"), origin)
    size = block_length_of(shares, valid)
    weights = every_block_weights(masks, valid, size)
    close(weights, torch.where(masks, 1 / shares, 0.0) / masks.shape[1])
    blocks = -(-valid.shape[1] // size)
    padded = torch.nn.functional.pad
    more = blocks * size - valid.shape[1]
    held = padded(valid, (0, more)).unflatten(1, (blocks, size)).sum(dim=2)
    hidden = padded(masks, (0, more)).unflatten(2, (blocks, size)).sum(dim=3)
    starts = torch.arange(0.0, 1.0, 1e-3)
    for row in range(len(masks)):
        counts = every_block_counts(starts, held[row].expand(len(starts), -1), masks.shape[1])
        assert bool((counts == hidden[row]).all(dim=(1, 2)).any())


def test_ebpo():
    """As published the ratio is that of whole likelihoods: nothing divides the difference."""
    case = load("dare_ebpo")
    masks, shares, valid = ebpo_blocks(case, "response")
    weights = every_block_weights(masks, valid, block_length_of(shares, valid))
    logp = wanted(case["logps_new"])
    new, old = ((values * weights).sum(dim=1) for values in (logp, case["logps_old"]))
    close(new.sum(dim=1), case["elbo_new"])
    close(old.sum(dim=1), case["elbo_old"])
    close(kl_estimate(new.sum(dim=1), old.sum(dim=1), "k2"), case["kl_k2"])
    loss, stats = policy_loss(
        new, old, case["advantages"], valid, ratio="sequence", ratio_length="one"
    )
    close(stats["clip_fraction"], case["clipfrac"])
    close(loss, case["loss"])
    loss.backward()
    close(logp.grad, case["grad_logps_new"])


# ---- TRL ----------------------------------------------------------------------------------------

SEQUENCE = {"ratio": "sequence"}
TRL: dict[str, dict[str, object]] = {  # name of the case -> what our settings call it
    "grpo_token": {},
    "grpo_sequence": SEQUENCE,
    "grpo_bias_corrected": {"kl_weighted": True},
    "grpo_two_sided": {},  # and its delta
    "grpo_off_policy_mask": {},  # and its limit
    "grpo_top_entropy": {},  # and its share
    "gspo_sequence": SEQUENCE | {"clip_low": 3e-4, "clip_high": 4e-4},
    "bnpo_token": {"normalization": "micro_batch"},
    "bnpo_sequence": SEQUENCE | {"normalization": "micro_batch"},
    "dr_grpo_token": {"normalization": "constant"},
    "dapo_token": {"normalization": "batch"},
    "dapo_token_clip_higher": {"normalization": "batch", "clip_high": 0.28},
    "cispo_token": {"normalization": "batch", "loss": "cispo"},
    "cispo_token_tight": {"normalization": "batch", "loss": "cispo"},
    "luspo": SEQUENCE | {"normalization": "sum"},
    "sapo": {"loss": "sapo"},
    "vespo": {"normalization": "batch", "loss": "vespo"},
}


def trl_case(prefix: str) -> tuple[dict[str, object], float | None]:
    """What our settings call a case, and the number that ends its name: a delta or a share."""
    name, number = re.fullmatch(r"(.*?)(?:_(?:delta)?([0-9.]+))?", prefix[:-1]).groups()
    return dict(TRL[name.removesuffix("_kl")]), None if number is None else float(number)


@pytest.mark.parametrize("prefix", cases("trl", "loss"))
def test_trl_losses(prefix):
    """Every case that is recorded; what the folder does not record is taken from its outputs."""
    case, name = load("trl", prefix), prefix.removesuffix(".")
    mask, advantages = case["mask"].bool(), case["advantages_for_losses"]
    logp, (options, number) = wanted(case["new_logps"]), trl_case(prefix)
    counted = mask
    if options.get("loss") == "cispo":  # its bound: the largest weight of a token
        weight = case["grad_new_logps"].abs() * mask.sum() / advantages.abs()[:, None]
        options["clip_high"] = float(weight.max()) - 1
    if name.startswith("grpo_two_sided"):
        options["clip_dual"] = number
    if name == "grpo_off_policy_mask":  # its limit: below the rows without gradient
        moved = torch.where(mask, case["old_logps"] - logp.detach(), 0.0).sum(1) / mask.sum(1)
        left = (case["grad_new_logps"] == 0).all(dim=1)
        options["off_policy_limit"] = float(moved[left].min()) - 1e-6
        assert bool(left.any())
        assert not bool(left.all())
    if name.startswith("grpo_top_entropy"):
        counted = batch_entropy_filter(case["entropies"], mask, number)
    settings = ObjectiveConfig(ratio="token", beta=1.0, normalization_length=mask.shape[1])
    settings = replace(settings, **options)

    def loss_of(beta: float, rows: slice = slice(None), **batch: float):
        kind, length = settings.normalization, settings.normalization_length
        weights = normalized_weights(counted, kind, length=length, denominators=mask, **batch)
        return policy_loss(
            logp[rows],
            case["old_logps"][rows],
            advantages[rows],
            counted[rows],
            ref_logp=case["ref_logps"][rows],
            weights=weights[rows],
            settings=replace(settings, beta=beta),
        )

    beta = 0.0
    if name.endswith("_kl"):  # its weight: from the loss; the gradient is tested
        free, (_, stats) = loss_of(0.0)[0], loss_of(1.0)
        beta = float((case["loss"] - free) / stats["kl"])
        close((stats["token_kl"] * mask).sum() / mask.sum(), case["metric.kl"])
    loss, stats = loss_of(beta)
    close(loss, case["loss"])
    (gradient,) = torch.autograd.grad(loss, logp)
    close(gradient, case["grad_new_logps"])
    shares = "metric.clip_ratio/region_mean"  # as the code counts them: of the clip alone, by token
    clips = settings.loss == "clip" and settings.clip_dual is None and counted is mask
    if clips and settings.ratio == "token" and case.has(shares, case.outputs):
        close(stats["clip_fraction"], case[shares])
    if case.has("loss_accumulated_over_two_micro_batches", case.outputs):
        half = len(mask) // 2
        halves = [
            loss_of(beta, rows, micro_batch=half)[0] for rows in (slice(0, half), slice(half, None))
        ]
        close(sum(halves), case["loss_accumulated_over_two_micro_batches"])


@pytest.mark.parametrize(("name", "kind"), [("group", "std"), ("batch", "batch"), ("none", "mean")])
def test_trl_advantages(name, kind):
    case = load("trl", f"advantages.{name}.")
    rewards = case["rewards_per_func"]
    parts = rewards.view(-1, int(case["num_generations"]), rewards.shape[1])
    summed = group_advantages(parts.sum(dim=2), kind)
    close(summed.flatten(), case["sum_then_normalize"])
    close(summed_advantages(parts).flatten(), case["normalize_then_sum"])
