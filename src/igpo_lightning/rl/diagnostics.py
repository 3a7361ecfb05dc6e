"""What a step logs; docs/metrics.md says what each name means."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from igpo_lightning.diffusion.sampler import DenoiseOutput
from igpo_lightning.rewards import extract_answer
from igpo_lightning.rl.measures import Measure, Measures, mean, share
from igpo_lightning.rl.rollout import Rollout, all_right, all_wrong
from igpo_lightning.rl.scorer import Experience


def sampling_measures(output: DenoiseOutput) -> Measures:
    """How full the passes were, and how far the sampler was from the policy where measured."""
    drift = output.drift
    measures = {"rollout/slot_use": mean(output.row_passes, output.slot_passes)}
    if drift.tokens:
        measures |= {
            "rollout/drift_mean": mean(drift.difference, drift.tokens),
            "rollout/drift_max": Measure("max", drift.largest),
            "rollout/drift_kl": mean(drift.divergence, drift.tokens),
            "rollout/drift_other": mean(drift.other, drift.tokens),
            "rollout/drift_joint": mean(drift.joint, drift.steps),
        }
    return measures


def group_measures(first: Rollout, final: Rollout) -> Measures:
    """Groups as the policy sampled them, and after replacement."""
    measures: Measures = {}
    for when, rollout in (("before", first), ("after", final)):
        correct = rollout.grouped(rollout.correct)
        wrong, right = all_wrong(correct), all_right(correct)
        measures |= {
            f"group/all_wrong_{when}": share(wrong),
            f"group/all_right_{when}": share(right),
            f"group/mixed_{when}": share(~wrong & ~right),
        }
    was_wrong = all_wrong(first.grouped(first.correct))
    is_wrong = all_wrong(final.grouped(final.correct))
    answers, size = [extract_answer(text) for text in first.texts], first.group_size
    unique = [
        len({a for a in answers[start : start + size] if a is not None})
        for start in range(0, len(answers), size)
    ]
    return measures | {
        "group/rescued_share": mean(float((was_wrong & ~is_wrong).sum()), float(was_wrong.sum())),
        "group/unique_answers": mean(sum(unique), len(unique)),
    }


def reward_measures(first: Rollout, final: Rollout, names: Sequence[str]) -> Measures:
    """Rewards after injection with their parts, and the policy's own before it."""

    def average(values: Tensor) -> Measure:
        return mean(float(values.float().sum()), values.numel())

    parts = {f"reward/{n}": average(final.reward_parts[:, i]) for i, n in enumerate(names)}
    return parts | {
        "reward/mean": average(final.rewards),
        "reward/mean_before": average(first.rewards),
        "reward/accuracy": average(final.correct),
        "reward/accuracy_before": average(first.correct),
    }


def experience_measures(experience: Experience, eos_token_id: int) -> Measures:
    """Length, end, entropy, hint tokens and advantages of the rows that are trained on."""
    rollout, live = experience.rollout, experience.live
    loss_mask, entropy = experience.kept, experience.entropy
    assert entropy is not None
    rows = len(rollout.texts)
    hinted = rollout.hint_mask & live
    kept = float((loss_mask & rollout.hint_mask).sum())
    split = (("", live), ("_hint", hinted), ("_generated", live & ~rollout.hint_mask))
    measures = {
        f"rollout/entropy{suffix}": mean(
            float(torch.where(mask, entropy, 0.0).sum()), float(mask.sum())
        )
        for suffix, mask in split
    }
    measures |= advantage_measures(experience.advantages, loss_mask, rollout.hint_mask)
    return measures | {
        "group/dropped": share(~experience.counted_rows),
        "rollout/length": mean(float(live.sum()), rows),
        "rollout/eos_rate": share((rollout.completion_ids == eos_token_id).any(dim=1)),
        "hint/tokens": Measure("sum", float(rollout.hint_mask.sum())),
        "hint/tokens_kept": Measure("sum", kept),
        "hint/kept_share": mean(kept, float(hinted.sum())),
        "policy/counted_tokens": Measure("sum", float(loss_mask.sum())),
    }


def sampler_ratio_measures(experience: Experience, threshold: float) -> Measures:
    """Weights of counted tokens of rows without hints, and the largest before the threshold."""
    if experience.sampler_ratio is None:
        return {}
    drawn = ~experience.rollout.hint_mask.any(dim=1, keepdim=True)
    ratio = experience.sampler_ratio[experience.kept & drawn]
    if not ratio.numel():
        return {}
    weights = ratio.clamp(max=threshold)
    return {
        "policy/sampler_weight_mean": mean(float(weights.double().sum()), ratio.numel()),
        "policy/sampler_ratio_max": Measure("max", float(ratio.max())),
        "policy/sampler_ratio_truncated": share(ratio > threshold),
    }


def advantage_measures(advantages: Tensor, loss_mask: Tensor, hint_mask: Tensor) -> Measures:
    """Size of the advantages [N], and their mean at the counted hint and generated tokens."""
    spread = advantages[:, None].expand(loss_mask.shape)
    measures = {
        f"policy/advantage_{name}": mean(float(spread[mask].sum()), float(mask.sum()))
        for name, mask in (("hint", loss_mask & hint_mask), ("generated", loss_mask & ~hint_mask))
    }
    size = mean(float(advantages.abs().sum()), advantages.numel())
    return measures | {"policy/advantage_abs": size}


@torch.no_grad()
def update_measures(stats: Mapping[str, Tensor], loss_mask: Tensor, hint_mask: Tensor) -> Measures:
    """Ratio, clipping and KL of a micro-batch: means over counted tokens, split by their origin.

    From the statistics of `policy_loss` and masks [B, C]. One transfer from the device, whatever
    the number of measures.
    """
    names: list[tuple[str, str]] = []  # and the kinds of their measures
    numbers: list[Tensor] = []
    for suffix, mask in (
        ("", loss_mask),
        ("_hint", loss_mask & hint_mask),
        ("_generated", loss_mask & ~hint_mask),
    ):
        count = mask.sum()
        ratio = stats["token_ratio"]
        values = {"ratio_mean": ratio, "clip_fraction": stats["token_clipped"].float()}
        if "token_kl" in stats:
            values["kl"] = stats["token_kl"]
        for name, value in values.items():
            names.append((f"policy/{name}{suffix}", "mean"))
            numbers += [torch.where(mask, value, 0.0).sum(), count]
        names.append((f"policy/ratio_max{suffix}", "max"))
        numbers += [torch.where(mask, ratio, 0.0).amax(), count]
    plain = torch.stack([number.double() for number in numbers]).tolist()
    return {
        name: Measure(kind, value, count)
        for (name, kind), value, count in zip(names, plain[::2], plain[1::2], strict=True)
        if count > 0
    }
