"""Several short prompts with their traces in one row of tokens, none of which sees another.

An option for SFT (`stage.padding=packed`): each completion keeps a tail of EOS of its own, and what
would have been padding holds further sequences.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from igpo_lightning.data.collate import TraceLayout, tail_length
from igpo_lightning.data.prompts import EncodedProblem

NOWHERE = -1  # in `PackedBatch.places_in_canvas`, after the end of a completion


@dataclass(frozen=True)
class PackedBatch:
    """Prompts and true completions for SFT: R sequences in K canvases.

    Attributes:
        step: The global step.
        row_indices: [R], positions in the stream of examples over all ranks.
        places: [R], places among the rows of this step over all ranks, from 0.
        step_rows: How many rows the step has over all ranks.
        canvas_of: [R], the canvas that each sequence stands in, in ascending order.
        canvas_ids: [K, L], each sequence's prompt and completion in turn, padded on the right.
        sequence_numbers: [K, L], n at the n-th sequence of its canvas, from 1; 0 at padding.
        places_in_canvas: [R, C], where each completion token stands in its canvas; `NOWHERE`
            after the completion's end.
    """

    step: int
    row_indices: list[int]
    places: list[int]
    step_rows: int
    canvas_of: list[int]
    canvas_ids: Tensor
    sequence_numbers: Tensor
    places_in_canvas: Tensor

    def to(self, device: torch.device) -> "PackedBatch":
        """The batch with its tensors on a device."""
        tensors: dict[str, Any] = {
            name: value.to(device) for name, value in vars(self).items() if torch.is_tensor(value)
        }
        return PackedBatch(**(vars(self) | tensors))

    def places_in_batch(self) -> Tensor:
        """[R, C], where each completion token stands in the flattened canvases, or `NOWHERE`."""
        places = self.places_in_canvas
        canvas_of = torch.tensor(self.canvas_of, dtype=torch.long, device=places.device)
        starts = canvas_of[:, None] * self.canvas_ids.shape[1]
        return torch.where(places == NOWHERE, NOWHERE, starts + places)

    def canvases(self, chosen: slice) -> "PackedBatch":
        """Some canvases with the sequences in them: a micro-batch; there may be none in them."""
        first, stop, _ = chosen.indices(len(self.canvas_ids))
        rows = [row for row, canvas in enumerate(self.canvas_of) if first <= canvas < stop]
        return PackedBatch(
            self.step,
            [self.row_indices[row] for row in rows],
            [self.places[row] for row in rows],
            self.step_rows,
            [self.canvas_of[row] - first for row in rows],
            self.canvas_ids[chosen],
            self.sequence_numbers[chosen],
            self.places_in_canvas[rows],
        )


def first_fit(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Which sequences share a canvas: each, longest first, goes where it first fits.

    Args:
        capacity: Tokens that a canvas holds; a longer sequence gets a canvas of its own.

    Returns:
        The numbers of the sequences in each canvas; every sequence once.
    """
    canvases: list[list[int]] = []
    room: list[int] = []
    for number in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        length = lengths[number]
        canvas = next((c for c, left in enumerate(room) if left >= length), None)
        if canvas is None:
            canvases.append([number])
            room.append(capacity - length)
        else:
            canvases[canvas].append(number)
            room[canvas] -= length
    return canvases


def collate_packed(
    step: int,
    rows: Sequence[tuple[int, EncodedProblem]],
    layout: TraceLayout,
    rank: int = 0,
    world: int = 1,
) -> PackedBatch:
    """Pack the sequences of a step, and give one rank its share of the canvases.

    Every rank gets equally many canvases of one width, so that all make the same forward passes;
    the last ones may be empty.

    Args:
        rows: (stream position, problem) of every row of the step, over all ranks.
        layout: Padding; a canvas holds at least the longest sequence of the step.
    """
    completions = []
    for position, problem in rows:
        trace = problem.trace_ids or []
        tail = [layout.eos_id] * tail_length(layout, f"{step}-{position}")
        completions.append((trace + tail)[: layout.completion_length])
    prompts = [problem.prompt_ids for _, problem in rows]
    lengths = [len(p) + len(c) for p, c in zip(prompts, completions, strict=True)]
    canvases = first_fit(lengths, max(layout.canvas_length, *lengths))
    canvases += [[] for _ in range(-len(canvases) % world)]
    mine = canvases[rank::world]

    width = max(sum(lengths[number] for number in canvas) for canvas in canvases)
    canvas_ids = torch.full((len(mine), width), layout.pad_id)
    sequence_numbers = torch.zeros_like(canvas_ids)
    places_in_canvas = torch.full(
        (sum(map(len, mine)), max(map(len, completions))), NOWHERE, dtype=torch.long
    )
    places: list[int] = []
    canvas_of: list[int] = []
    for canvas, numbers in enumerate(mine):
        start = 0
        for order, number in enumerate(numbers, start=1):
            tokens = torch.tensor(prompts[number] + completions[number])
            stop = start + len(tokens)
            canvas_ids[canvas, start:stop] = tokens
            sequence_numbers[canvas, start:stop] = order
            length = len(completions[number])
            places_in_canvas[len(places), :length] = torch.arange(stop - length, stop)
            places.append(number)
            canvas_of.append(canvas)
            start = stop
    return PackedBatch(
        step=step,
        row_indices=[rows[place][0] for place in places],
        places=places,
        step_rows=len(rows),
        canvas_of=canvas_of,
        canvas_ids=canvas_ids,
        sequence_numbers=sequence_numbers,
        places_in_canvas=places_in_canvas,
    )
