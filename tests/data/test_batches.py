"""Which rows a step holds, and how they are padded."""

import itertools
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from igpo_lightning import distributed
from igpo_lightning.data.collate import (
    PromptBatch,
    TraceLayout,
    bucketed_batches,
    collate_traces,
    evaluation_batches,
    pad_completions,
    pad_left,
    padded_length,
    rank_positions,
    rank_share,
)
from igpo_lightning.data.datamodules import RolloutData, TraceData
from igpo_lightning.data.problem import Problem
from igpo_lightning.data.prompts import EncodedProblem

PAD, EOS = 2, 1


def example(length: int, prompt: int = 2, name: str = "p") -> EncodedProblem:
    problem = Problem(name, "?", "t", "1")
    return EncodedProblem(problem, [5] * prompt, [7] * length, (length, length))


def layout(length: int = 10, **changes: object) -> TraceLayout:
    return TraceLayout(length, PAD, EOS, **changes)  # type: ignore[arg-type]


def data(lengths: Callable[[int], int], batch_size: int = 4, **changes: object) -> TraceData:
    return TraceData(
        lambda i: example(lengths(i), name=str(i)), [], 100, batch_size, 4, layout(**changes)
    )


def test_prompts_are_padded_left() -> None:
    ids, mask = pad_left([[5, 6], [7]], PAD)
    assert ids.tolist() == [[5, 6], [PAD, 7]]
    assert mask.tolist() == [[True, True], [False, True]]


def test_completions_are_cut_and_filled_with_eos() -> None:
    assert pad_completions([[5], [6, 7, 8]], 2, EOS).tolist() == [[5, EOS], [6, 7]]


@pytest.mark.parametrize("world", [1, 2, 4])
def test_ranks_share_a_step(world: int) -> None:
    shares = [rank_positions(3, 8, rank, world) for rank in range(world)]
    assert [p for share in shares for p in share] == list(range(24, 32))
    assert rank_share([9, 8, 7, 6], 1, 2) == [7, 6]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 3), st.integers(1, 5), st.integers(1, 6), st.integers(0, 9))
def test_buckets_hold_every_position_once(window: int, size: int, steps: int, seed: int) -> None:
    def length(position: int) -> int:
        return position * 7919 % 31

    batches = bucketed_batches(window, size, steps, length, seed)
    first = window * size * steps
    assert sorted(p for batch in batches for p in batch) == list(range(first, first + size * steps))
    # Batches do not overlap in length: sorted by their shortest, each ends before the next begins.
    spans = sorted((min(map(length, b)), max(map(length, b))) for b in batches)
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(spans))


def test_buckets_come_in_random_order_and_save_padding() -> None:
    def length(position: int) -> int:
        return 1 + position * 7919 % 60

    def padding(steps: int) -> int:
        module = data(length, batch_size=8, length=100, padding="longest", bucket_steps=steps)
        batches = [module.batch(step).completion_ids for step in range(16)]
        return sum(int((ids == EOS).sum()) for ids in batches)

    assert padding(16) < 0.5 * padding(1)
    batches = bucketed_batches(0, 8, 16, length, 0)
    order = [min(map(length, batch)) for batch in batches]
    assert order != sorted(order)
    assert batches == bucketed_batches(0, 8, 16, length, 0)


def test_a_step_is_a_function_of_its_number() -> None:
    forward = data(lambda i: 1 + i % 9, bucket_steps=3)
    backward = data(lambda i: 1 + i % 9, bucket_steps=3)
    steps = [forward.step_positions(step) for step in range(9)]
    assert [backward.step_positions(step) for step in reversed(range(9))] == steps[::-1]


def test_full_padding_is_the_completion_length() -> None:
    batch = data(lambda i: 3).batch(0)
    assert batch.completion_ids.shape == (4, 10)
    assert bool((batch.completion_ids[:, 3:] == EOS).all())
    assert batch.row_indices == [0, 1, 2, 3]
    assert (batch.places, batch.step_rows) == ([0, 1, 2, 3], 4)


def test_the_longest_trace_gets_a_sampled_tail() -> None:
    kind = layout(length=100, padding="longest", eos_tail=5)
    tails = [padded_length(kind, step, [3, 20, 7]) - 20 for step in range(200)]
    assert set(tails) == {1, 2, 3, 4, 5}
    assert tails == [padded_length(kind, step, [3, 20, 7]) - 20 for step in range(200)]
    assert padded_length(layout(length=22, padding="longest", eos_tail=9), 0, [21]) == 22


def test_ranks_agree_on_the_length(monkeypatch: pytest.MonkeyPatch) -> None:
    """The longest trace is on rank 1; both pad to it, and their rows are those of one rank."""
    module = data(lambda i: [2, 3, 4, 60][i % 4], length=100, padding="longest", eos_tail=3)
    alone = module.batch(5)
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    parts = []
    for rank in (0, 1):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        parts.append(module.batch(5))
    assert torch.equal(torch.cat([p.completion_ids for p in parts]), alone.completion_ids)
    assert [i for p in parts for i in p.row_indices] == alone.row_indices
    assert [i for p in parts for i in p.places] == alone.places
    assert {p.step_rows for p in parts} == {4}


def test_evaluation_rows_are_shared_and_counted_once() -> None:
    problems = [example(3, prompt=length, name=f"p{length}") for length in (4, 2, 3)]
    ranks = [evaluation_batches(problems, 1, 2, rank, 2) for rank in (0, 1)]
    rows = [
        (problem.problem.id, counted)
        for batches in ranks
        for batch in batches
        for problem, counted in zip(batch.problems, batch.counted, strict=True)
    ]
    # Shortest prompts first, in turn to the two ranks; the longest is asked again, uncounted.
    assert rows == [("p2", True), ("p4", True), ("p3", True), ("p4", False)]
    assert evaluation_batches([], 1, 2, 0, 2) == []


def test_a_trace_longer_than_the_completion_is_cut() -> None:
    rows = [(0, 0, example(12))]
    batch = collate_traces(0, rows, 1, 10, layout())
    assert batch.completion_ids.tolist() == [[7] * 10]


def stream(places: int = 4) -> Callable[[int], EncodedProblem]:
    """Problems a, b, c, d, a, b, ..."""

    def example(position: int) -> EncodedProblem:
        problem = Problem("abcd"[position % places], "", None, "")
        return EncodedProblem(problem, [5], None, None)

    return example


def rollouts(skip_accuracy: float | None) -> RolloutData:
    return RolloutData(stream(), [], 1, 1, 10, 2, 1, skip_accuracy)


def names(batch: PromptBatch) -> str:
    return "".join(p.problem.id for p in batch.problems)


def test_prompts_follow_the_stream_and_solved_ones_are_passed_over() -> None:
    """b is always right; d was right once and is not any more; c never is."""
    plain, skipping = rollouts(None), rollouts(1.0)
    for data in (plain, skipping):
        assert (names(data.prompts(0)), names(data.prompts(1))) == ("ab", "cd")
        data.record([("a", 0.5), ("b", 1.0), ("c", 0.0), ("d", 1.0)])
        data.record([("d", 0.5), ("b", 1.0)])
    assert names(plain.prompts(2)) == "ab"
    assert names(skipping.prompts(2)) == "ac"
    assert (skipping.skipped, plain.skipped) == (1, 0)
    assert list(skipping.prompts(3).positions) == [7, 8]


def test_a_stream_of_solved_problems_does_not_end() -> None:
    data = rollouts(0.5)
    data.record([(name, 1.0) for name in "abcd"])
    assert len(data.prompts(0).problems) == 2


def test_the_stream_goes_on_from_a_checkpoint() -> None:
    data, again = rollouts(1.0), rollouts(1.0)
    data.prompts(0)
    data.record([("a", 1.0), ("c", 1.0)])
    again.load_state_dict(data.state_dict())
    assert names(again.prompts(1)) == names(data.prompts(1)) == "db"
    assert again.state_dict() == data.state_dict()
