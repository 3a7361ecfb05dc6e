"""What a step logs, as numbers that combine honestly over micro-batches, updates and ranks.

docs/metrics.md says what each name means.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from igpo_lightning.rl.rollout import Rollout, all_right, all_wrong


@dataclass(frozen=True)
class Measure:
    """A number and how two of its kind become one.

    Attributes:
        kind: "mean": a sum with its weight, so that parts of unequal size average rightly; "sum";
            "max".
        value: The sum, or the largest value.
        weight: What a mean divides by.
    """

    kind: str
    value: float
    weight: float = 1.0

    def join(self, other: "Measure") -> "Measure":
        """This and another part as one."""
        if self.kind == "max":
            return Measure("max", max(self.value, other.value))
        return Measure(self.kind, self.value + other.value, self.weight + other.weight)


Measures = dict[str, Measure]


def mean(total: float, weight: float) -> Measure:
    """A mean of `weight` things that sum to `total`."""
    return Measure("mean", total, weight)


def join_measures(parts: Iterable[Measures]) -> Measures:
    """Measures of several parts as one; a name may be missing in some."""
    joined: Measures = {}
    for part in parts:
        for name, measure in part.items():
            joined[name] = joined[name].join(measure) if name in joined else measure
    return joined


def measured_values(measures: Measures) -> dict[str, float]:
    """Plain numbers; a mean over nothing (the ratio on hints where none was given) is left out."""
    return {
        name: m.value / m.weight if m.kind == "mean" else m.value
        for name, m in measures.items()
        if m.kind != "mean" or m.weight > 0
    }


def share(flags: Tensor) -> Measure:
    """The share of True among flags."""
    return mean(float(flags.sum()), flags.numel())


def group_measures(first: Rollout, final: Rollout, answers: Sequence[str | None]) -> Measures:
    """Groups before and after injection.

    Args:
        first: The groups as the policy sampled them.
        final: The groups after replacement.
        answers: N extracted answers of `first`; None where a completion has none.
    """
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
    size = first.group_size
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


def rollout_measures(
    rollout: Rollout, entropy: Tensor, live: Tensor, loss_mask: Tensor, eos_token_id: int
) -> Measures:
    """Length, end, entropy and hint tokens of the rows that are trained on.

    Args:
        rollout: The groups after replacement.
        entropy: [N, C], under the old policy.
        live: [N, C], True up to and including the first EOS.
        loss_mask: [N, C], True at tokens that count.
        eos_token_id: The EOS.
    """
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
    return measures | {
        "rollout/length": mean(float(live.sum()), rows),
        "rollout/eos_rate": share((rollout.completion_ids == eos_token_id).any(dim=1)),
        "hint/tokens": Measure("sum", float(rollout.hint_mask.sum())),
        "hint/tokens_kept": Measure("sum", kept),
        "hint/kept_share": mean(kept, float(hinted.sum())),
        "policy/counted_tokens": Measure("sum", float(loss_mask.sum())),
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

    One transfer from the device, whatever the number of measures.

    Args:
        stats: Of `policy_loss`.
        loss_mask: [B, C], True at tokens that count.
        hint_mask: [B, C], True at hint tokens.
    """
    names: list[tuple[str, Callable[[float, float], Measure]]] = []
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
            names.append((f"policy/{name}{suffix}", mean))
            numbers += [torch.where(mask, value, 0.0).sum(), count]
        names.append((f"policy/ratio_max{suffix}", _largest))
        numbers += [torch.where(mask, ratio, 0.0).amax(), count]
    plain = torch.stack([number.double() for number in numbers]).tolist()
    made = {
        name: make(plain[2 * i], plain[2 * i + 1])
        for i, (name, make) in enumerate(names)
        if plain[2 * i + 1] > 0
    }
    return made


def _largest(value: float, count: float) -> Measure:
    return Measure("max", value)
