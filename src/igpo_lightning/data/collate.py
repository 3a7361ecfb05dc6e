"""Batches: which examples a step takes, and how rows of different length become tensors."""

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from igpo_lightning.data.prompts import EncodedProblem

CPU = torch.device("cpu")
COMPANY = -1  # in place of a row's index: it does not count


@dataclass(frozen=True)
class PromptBatch:
    """Problems of one step on one rank.

    Attributes:
        step: The global step; randomness is a function of it.
        problems: Q problems.
        sample_indices: Which sample of its problem each row is (evaluation), else all 0.
        counted: False for rows that only keep ranks in step.
        device: Where rows become tensors when they are used.
        part: Which equal part of each group this rank trains on, from 0, where more ranks than
            groups share them out.
        parts: Ranks that share a group.
        positions: Of the problems in the stream of prompts (RL).
    """

    step: int
    problems: list[EncodedProblem]
    sample_indices: list[int]
    counted: list[bool]
    device: torch.device = CPU
    part: int = 0
    parts: int = 1
    positions: Sequence[int] = ()

    def to(self, device: torch.device) -> "PromptBatch":
        """The batch for a device."""
        return replace(self, device=device)


@dataclass(frozen=True)
class TraceBatch:
    """Prompts and true completions for SFT.

    Attributes:
        step: The global step.
        row_indices: [B], positions in the stream of examples over all ranks; `COMPANY` for a row
            that only keeps ranks in step.
        places: [B], places among the rows of this step over all ranks, from 0.
        step_rows: How many rows the step has over all ranks.
        prompt_ids: [B, P], padded on the left.
        prompt_mask: [B, P], True at real tokens.
        completion_ids: [B, C], padded with EOS.
    """

    step: int
    row_indices: list[int]
    places: list[int]
    step_rows: int
    prompt_ids: Tensor
    prompt_mask: Tensor
    completion_ids: Tensor

    def to(self, device: torch.device) -> "TraceBatch":
        """The batch with its tensors on a device."""
        tensors = (self.prompt_ids, self.prompt_mask, self.completion_ids)
        ids, mask, completions = (tensor.to(device) for tensor in tensors)
        return replace(self, prompt_ids=ids, prompt_mask=mask, completion_ids=completions)


@dataclass(frozen=True)
class TraceLayout:
    """How rows of different length become a batch for SFT.

    Attributes:
        completion_length: C, the most tokens a completion has.
        pad_id: Pads prompts on the left.
        eos_id: Pads completions; the model learns to predict it.
        padding: "full": every completion has C tokens, as sampling will have; "longest": the
            step's longest trace and a sampled tail of EOS, at most C; "packed": each trace with
            a sampled tail of its own, several in one canvas (see packing.py).
        eos_tail: With "longest" and "packed", a tail has 1 to `eos_tail` tokens, drawn for each
            step or row, so that the model learns more than a single EOS after a trace.
        canvas_length: With "packed", tokens of a canvas.
        bucket_steps: Steps whose examples are sorted by length together and cut into batches, which
            then come in random order; 1 keeps the order of the stream.
        seed: Of tails and of the order of batches.
    """

    completion_length: int
    pad_id: int
    eos_id: int
    padding: str = "full"
    eos_tail: int = 1
    canvas_length: int = 1
    bucket_steps: int = 1
    seed: int = 0


def rank_share(rows: Sequence[int], rank: int, world: int) -> list[int]:
    """The rows of a step that one rank takes; ranks share them without overlap."""
    local = len(rows) // world
    return list(rows[rank * local : (rank + 1) * local])


def rank_positions(step: int, per_step: int, rank: int, world: int) -> list[int]:
    """The stream positions that one rank takes in one step, or in one round of prompts.

    More ranks than positions share them: each takes one, several neighbours the same.
    """
    if world > per_step:
        return [step * per_step + rank * per_step // world]
    return rank_share(range(step * per_step, (step + 1) * per_step), rank, world)


def bucketed_batches(
    window: int, batch_size: int, steps: int, lengths: Callable[[int], int], seed: int
) -> list[list[int]]:
    """The batches of `steps` steps, each of rows of like length.

    Args:
        window: Which `steps` steps, from 0; they hold the positions from
            `window * steps * batch_size` on, each once.
        lengths: Length of the example at a stream position.

    Returns:
        Stream positions of each step.
    """
    first, count = window * steps * batch_size, steps * batch_size
    positions = sorted(range(first, first + count), key=lambda p: (lengths(p), p))
    batches = [positions[i : i + batch_size] for i in range(0, count, batch_size)]
    random.Random(f"bucket-{seed}-{window}").shuffle(batches)
    return batches


def padded_length(layout: TraceLayout, step: int, trace_lengths: Iterable[int]) -> int:
    """Tokens of the completions of one step, from the lengths of all its traces on all ranks."""
    if layout.padding == "full":
        return layout.completion_length
    return min(max(trace_lengths) + tail_length(layout, str(step)), layout.completion_length)


def tail_length(layout: TraceLayout, purpose: str) -> int:
    """How many EOS follow a trace, drawn once for each purpose (a step, a row)."""
    return random.Random(f"tail-{layout.seed}-{purpose}").randint(1, layout.eos_tail)


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
    rows: Sequence[tuple[int, int, EncodedProblem]],
    step_rows: int,
    length: int,
    layout: TraceLayout,
) -> TraceBatch:
    """Batch problems with their traces for SFT.

    Args:
        rows: (stream position, place in the step, problem) of each row.
        step_rows: Rows of the step over all ranks.
    """
    problems = [problem for _, _, problem in rows]
    prompt_ids, prompt_mask = pad_left([p.prompt_ids for p in problems], layout.pad_id)
    traces = [p.trace_ids or [] for p in problems]
    return TraceBatch(
        step=step,
        row_indices=[position for position, _, _ in rows],
        places=[place for _, place, _ in rows],
        step_rows=step_rows,
        prompt_ids=prompt_ids,
        prompt_mask=prompt_mask,
        completion_ids=pad_completions(traces, length, layout.eos_id),
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
    rows += [(i, sample, False) for i, sample, _ in rows[-1:]] * (-len(rows) % world)
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
