"""Batches: which examples a step takes, and how rows of different length become tensors."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from igpo_lightning.data.prompts import EncodedProblem


@dataclass(frozen=True)
class PromptBatch:
    """Problems of one step on one rank.

    Attributes:
        step: The global step; randomness is a function of it.
        problems: Q problems.
        sample_indices: Which sample of its problem each row is (evaluation), else all 0.
        counted: False for rows that only keep ranks in step.
    """

    step: int
    problems: list[EncodedProblem]
    sample_indices: list[int]
    counted: list[bool]


@dataclass(frozen=True)
class TraceBatch:
    """Prompts and true completions for SFT.

    Attributes:
        step: The global step.
        row_indices: [B], positions in the stream of examples over all ranks.
        prompt_ids: [B, P], padded on the left.
        prompt_mask: [B, P], True at real tokens.
        completion_ids: [B, C], padded with EOS.
    """

    step: int
    row_indices: list[int]
    prompt_ids: Tensor
    prompt_mask: Tensor
    completion_ids: Tensor


def rank_positions(step: int, per_step: int, rank: int, world: int) -> list[int]:
    """The stream positions that one rank takes in one step; ranks share a step without overlap."""
    local = per_step // world
    first = step * per_step + rank * local
    return list(range(first, first + local))


def pad_left(rows: Sequence[Sequence[int]], pad_id: int) -> tuple[Tensor, Tensor]:
    """Token ids [B, P] padded on the left, and their mask [B, P], True at real tokens."""
    width = max(len(row) for row in rows)
    ids = torch.tensor([[pad_id] * (width - len(row)) + list(row) for row in rows])
    mask = torch.tensor([[False] * (width - len(row)) + [True] * len(row) for row in rows])
    return ids, mask


def pad_completions(rows: Sequence[Sequence[int]], length: int, eos_id: int) -> Tensor:
    """Completions [B, C]: cut to C, padded with EOS, which is part of what the model learns."""
    return torch.tensor([(list(row) + [eos_id] * length)[:length] for row in rows])


def collate_traces(
    step: int,
    row_indices: list[int],
    problems: Sequence[EncodedProblem],
    length: int,
    pad_id: int,
    eos_id: int,
) -> TraceBatch:
    """Batch problems with their traces for SFT; a completion has `length` tokens."""
    prompt_ids, prompt_mask = pad_left([p.prompt_ids for p in problems], pad_id)
    traces = [p.trace_ids or [] for p in problems]
    return TraceBatch(
        step, row_indices, prompt_ids, prompt_mask, pad_completions(traces, length, eos_id)
    )


def evaluation_batches(
    problems: Sequence[EncodedProblem], samples: int, batch_size: int, rank: int, world: int
) -> list[PromptBatch]:
    """Batches of (problem, sample) rows for one rank, shortest prompts first.

    Every rank gets the same number of rows: the last ones repeat and are not counted.
    """
    if not problems:
        return []
    order = sorted(range(len(problems)), key=lambda i: (len(problems[i].prompt_ids), i))
    rows = [(i, sample, True) for i in order for sample in range(samples)]
    rows += [(*rows[-1][:2], False)] * (-len(rows) % world)
    mine = rows[rank::world]
    return [
        PromptBatch(
            step=0,
            problems=[problems[i] for i, _, _ in part],
            sample_indices=[sample for _, sample, _ in part],
            counted=[counted for _, _, counted in part],
        )
        for part in (mine[k : k + batch_size] for k in range(0, len(mine), batch_size))
    ]
