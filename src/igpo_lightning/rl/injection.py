"""What IGPO does to a group that needs help: who needs it, and what replaces what."""

import math
from dataclasses import replace
from typing import Any

from torch import Tensor

from igpo_lightning.rl.rollout import Rollout, all_wrong
from igpo_lightning.settings import InpaintConfig


def needs_help(settings: InpaintConfig, correct: Tensor) -> Tensor:
    """Groups [Q] that get extra samples, from verdicts [Q, G]."""
    groups = correct.shape[0]
    if settings.scope == "batch":  # the whole batch is one group
        correct = correct.reshape(1, -1)
    if settings.trigger == "all_wrong":
        chosen = all_wrong(correct)
    else:
        chosen = correct.new_full((correct.shape[0],), settings.trigger == "always")
    return chosen.expand(groups)


def plan_replacements(
    extra_correct: Tensor, replace_fraction: float, correct: Tensor
) -> list[tuple[int, int, int]]:
    """Which extra samples take the place of which wrong ones (Algorithm 1, replacement).

    K = min(number correct, floor(lambda * G)) correct ones replace K wrong ones, or as many as are
    wrong. The samples of a group are exchangeable, so the first correct ones replace the first
    wrong ones.

    Args:
        extra_correct: [K, G], verdicts on the extra samples of K groups.
        replace_fraction: lambda in [0, 1].
        correct: [K, G], verdicts on the samples to be replaced.

    Returns:
        (group, source sample, target sample), one for each replacement.
    """
    limit = math.floor(replace_fraction * extra_correct.shape[1] + 1e-9)
    pairs = zip(extra_correct.tolist(), correct.tolist(), strict=True)
    return [
        (group, source, target)
        for group, (extra, old) in enumerate(pairs)
        for source, target in zip(
            [i for i, right in enumerate(extra) if right][:limit],
            [i for i, right in enumerate(old) if not right],
            strict=False,
        )
    ]


def inject(
    rollout: Rollout, extra: Rollout, groups: list[int], replace_fraction: float
) -> tuple[Rollout, int]:
    """Replace wrong samples of groups by correct extra ones.

    `groups` are the numbers in `rollout` of the groups of `extra`, `replace_fraction` is lambda.

    Returns:
        The updated rollout and the number of replaced samples.
    """
    size = rollout.group_size
    plan = plan_replacements(
        extra.grouped(extra.correct), replace_fraction, rollout.grouped(rollout.correct)[groups]
    )
    source_rows = [group * size + source for group, source, _ in plan]
    target_rows = [groups[group] * size + target for group, _, target in plan]

    def merged(name: str) -> Tensor:
        values: Tensor = getattr(rollout, name).clone()
        values[target_rows] = getattr(extra, name)[source_rows]
        return values

    texts, reasons = list(rollout.texts), list(rollout.reasons)
    for target, source in zip(target_rows, source_rows, strict=True):
        texts[target], reasons[target] = extra.texts[source], extra.reasons[source]
    of_tokens = ("completion_ids", "hint_mask", "unmask_step", "unmask_score")
    of_rows = ("correct", "rewards", "reward_parts")
    tensors: dict[str, Any] = {name: merged(name) for name in (*of_tokens, *of_rows)}
    replaced = rollout.replaced.clone()
    replaced[target_rows] = True
    merged_rollout = replace(rollout, texts=texts, reasons=reasons, replaced=replaced, **tensors)
    return merged_rollout, len(plan)
