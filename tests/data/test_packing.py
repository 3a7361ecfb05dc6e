"""Which sequences share a canvas, and where each stands in it."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from igpo_lightning import distributed
from igpo_lightning.data.collate import TraceLayout
from igpo_lightning.data.datamodules import TraceData
from igpo_lightning.data.packing import NOWHERE, PackedBatch, collate_packed, first_fit
from igpo_lightning.data.problem import Problem
from igpo_lightning.data.prompts import EncodedProblem

PAD, EOS = 2, 1
LAYOUT = TraceLayout(8, PAD, EOS, padding="packed", eos_tail=1, canvas_length=12)


def example(prompt: list[int], trace: list[int]) -> EncodedProblem:
    return EncodedProblem(Problem("p", "?", "t", "1"), prompt, trace, None)


@settings(max_examples=50)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=20), st.integers(1, 40))
def test_every_sequence_is_packed_once_and_none_overflows(lengths: list[int], room: int) -> None:
    canvases = first_fit(lengths, room)
    assert sorted(number for canvas in canvases for number in canvas) == list(range(len(lengths)))
    for canvas in canvases:
        assert sum(lengths[number] for number in canvas) <= room or len(canvas) == 1
    # No two canvases would have fitted into one.
    used = sorted(sum(lengths[number] for number in canvas) for canvas in canvases)
    assert len(used) < 2 or used[0] + used[1] > room


def test_first_fit_by_hand() -> None:
    """7, 6, 4, 3 into 10: 7 opens the first, 6 the second, 4 fits the second, 3 the first."""
    assert first_fit([3, 7, 6, 4], 10) == [[1, 0], [2, 3]]


def test_a_batch_by_hand() -> None:
    """Lengths 2 + 3 + 1 = 6, 1 + 1 + 1 = 3 and 3 + 8 = 11, whose trace of 9 is cut to 8."""
    rows = [
        (40, example([10, 11], [20, 21, 22])),
        (41, example([12], [23])),
        (42, example([13, 14, 15], list(range(30, 39)))),
    ]
    batch = collate_packed(5, rows, LAYOUT)
    assert batch.canvas_ids.tolist() == [
        [13, 14, 15, 30, 31, 32, 33, 34, 35, 36, 37],
        [10, 11, 20, 21, 22, EOS, 12, 23, EOS, PAD, PAD],
    ]
    assert batch.sequence_numbers.tolist() == [[1] * 11, [1] * 6 + [2] * 3 + [0] * 2]
    assert (batch.row_indices, batch.places, batch.canvas_of) == (
        [42, 40, 41],
        [2, 0, 1],
        [0, 1, 1],
    )
    assert batch.step_rows == 3
    no = NOWHERE
    assert batch.places_in_canvas.tolist() == [
        [3, 4, 5, 6, 7, 8, 9, 10],
        [2, 3, 4, 5, no, no, no, no],
        [7, 8, no, no, no, no, no, no],
    ]
    second = batch.canvases(slice(1, 9))
    assert (second.row_indices, second.canvas_of) == ([40, 41], [0, 0])
    assert torch.equal(second.canvas_ids, batch.canvas_ids[1:])
    assert torch.equal(second.places_in_canvas, batch.places_in_canvas[1:])


def test_a_sequence_longer_than_a_canvas_makes_canvases_longer() -> None:
    layout = TraceLayout(20, PAD, EOS, padding="packed", canvas_length=4)
    batch = collate_packed(0, [(0, example([5] * 6, [7] * 3)), (1, example([5], [7]))], layout)
    assert batch.canvas_ids.shape == (2, 10)


def data(eos_tail: int = 4) -> TraceData:
    layout = TraceLayout(30, PAD, EOS, "packed", eos_tail=eos_tail, canvas_length=40)

    def make(i: int) -> EncodedProblem:
        return example([5] * (1 + i % 7), [7] * (1 + i * i % 19))

    return TraceData(make, [], 100, batch_size=12, train_batch_size=2, layout=layout)


@pytest.mark.parametrize("world", [1, 2, 4])
def test_ranks_have_equally_many_canvases_and_share_the_rows(
    monkeypatch: pytest.MonkeyPatch, world: int
) -> None:
    monkeypatch.setattr(distributed, "world_size", lambda: world)
    parts: list[PackedBatch] = []
    for rank in range(world):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        part = data().batch(3)
        assert isinstance(part, PackedBatch)
        parts.append(part)
    assert len({part.canvas_ids.shape for part in parts}) == 1
    assert sorted(i for part in parts for i in part.row_indices) == list(range(36, 48))
    assert sorted(i for part in parts for i in part.places) == list(range(12))
    assert {part.step_rows for part in parts} == {12}


def test_each_trace_has_a_tail_of_its_own() -> None:
    tails = set()
    for step in range(20):
        batch = data().batch(step)
        assert isinstance(batch, PackedBatch)
        for index, places in zip(batch.row_indices, batch.places_in_canvas, strict=True):
            tails.add(int((places != NOWHERE).sum()) - (1 + index * index % 19))
    assert tails == {1, 2, 3, 4}
