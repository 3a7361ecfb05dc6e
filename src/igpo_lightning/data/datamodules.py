"""Lightning data modules: which batch stands at which global step.

Lightning does not move a plain loader forward on resume. Here the batch of a step is a function of
(seed, step), and the loader starts at the step that the run has reached.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import lightning
from torch.utils.data import DataLoader, Dataset

from igpo_lightning import distributed
from igpo_lightning.data.collate import (
    COMPANY,
    PromptBatch,
    TraceBatch,
    TraceLayout,
    bucketed_batches,
    collate_traces,
    evaluation_batches,
    padded_length,
    rank_positions,
    rank_share,
)
from igpo_lightning.data.packing import PackedBatch, collate_packed
from igpo_lightning.data.prompts import EncodedProblem


class _Steps(Dataset[Any]):
    """Item s is the batch of step s."""

    def __init__(self, make_batch: Callable[[int], Any]) -> None:
        self.make_batch = make_batch

    def __getitem__(self, step: int) -> Any:
        return self.make_batch(step)


class _Range:
    """A sampler that counts steps from where the run stands."""

    def __init__(self, start: int, stop: int) -> None:
        self.start, self.stop = start, stop

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.start, self.stop))

    def __len__(self) -> int:
        # Lightning counts a resumed epoch's batches from the epoch's start, and would begin a new
        # epoch, with batches that it had, once it has counted to a shorter length.
        return self.stop


def _loader(make_batch: Callable[[int], Any], start: int, stop: int) -> DataLoader[Any]:
    return DataLoader(_Steps(make_batch), batch_size=None, sampler=_Range(start, stop))


class EvaluationData(lightning.LightningDataModule):
    """Problems to answer, for `trainer.validate`."""

    def __init__(self, problems: Sequence[EncodedProblem], samples: int, batch_size: int) -> None:
        super().__init__()
        self.problems, self.samples, self.batch_size = problems, samples, batch_size

    def val_dataloader(self) -> DataLoader[Any]:
        """Batches of (problem, sample) rows of this rank."""
        rank, world = distributed.rank(), distributed.world_size()
        batches = evaluation_batches(self.problems, self.samples, self.batch_size, rank, world)
        return _loader(batches.__getitem__, 0, len(batches))


class RolloutData(EvaluationData):
    """Prompts for RL, and held-out problems for evaluations on the way."""

    def __init__(
        self,
        example: Callable[[int], EncodedProblem],
        held_out: Sequence[EncodedProblem],
        samples: int,
        batch_size: int,
        steps: int,
        prompts_per_step: int,
        updates_per_step: int,
    ) -> None:
        """`example(i)` is the problem at place i of the endless training stream."""
        super().__init__(held_out, samples, batch_size)
        self.example = example
        self.steps, self.prompts_per_step = steps, prompts_per_step
        self.updates_per_step = updates_per_step

    def batch(self, step: int) -> PromptBatch:
        """The prompts of one step on this rank."""
        positions = rank_positions(
            step, self.prompts_per_step, distributed.rank(), distributed.world_size()
        )
        problems = [self.example(position) for position in positions]
        return PromptBatch(step, problems, [0] * len(problems), [True] * len(problems))

    def train_dataloader(self) -> DataLoader[Any]:
        """The remaining steps."""
        assert self.trainer is not None
        done = self.trainer.global_step // self.updates_per_step
        return _loader(self.batch, done, self.steps)


class TraceData(lightning.LightningDataModule):
    """Traces for SFT and for the validation loss."""

    def __init__(
        self,
        example: Callable[[int], EncodedProblem],
        validation: Sequence[EncodedProblem],
        steps: int,
        batch_size: int,
        train_batch_size: int,
        layout: TraceLayout,
    ) -> None:
        """`example(i)` is the problem at place i of the endless training stream."""
        super().__init__()
        self.example, self.validation = example, validation
        self.steps, self.batch_size, self.train_batch_size = steps, batch_size, train_batch_size
        self.layout = layout
        self._window: tuple[int, list[list[int]]] = (-1, [])

    def step_positions(self, step: int) -> list[int]:
        """The stream positions of one step's rows on all ranks."""
        steps, size = self.layout.bucket_steps, self.batch_size
        if steps == 1:
            return list(range(step * size, (step + 1) * size))
        window, offset = divmod(step, steps)
        if self._window[0] != window:
            batches = bucketed_batches(window, size, steps, self._length, self.layout.seed)
            self._window = (window, batches)
        return self._window[1][offset]

    def _length(self, position: int) -> int:
        problem = self.example(position)
        return len(problem.prompt_ids) + len(problem.trace_ids or [])

    def batch(self, step: int) -> TraceBatch | PackedBatch:
        """The examples of one step on this rank."""
        positions, layout = self.step_positions(step), self.layout
        if layout.padding == "packed":
            whole = [(position, self.example(position)) for position in positions]
            rank, world = distributed.rank(), distributed.world_size()
            return collate_packed(step, whole, layout, rank, world)
        places = rank_share(range(len(positions)), distributed.rank(), distributed.world_size())
        # Only the length that all ranks share needs the other ranks' examples.
        needed = range(len(positions)) if layout.padding == "longest" else places
        examples = {place: self.example(positions[place]) for place in needed}
        traces = [len(example.trace_ids or []) for example in examples.values()]
        length = padded_length(layout, step, traces)
        rows = [(positions[place], place, examples[place]) for place in places]
        return collate_traces(step, rows, len(positions), length, layout)

    def train_dataloader(self) -> DataLoader[Any]:
        """The remaining steps."""
        assert self.trainer is not None
        return _loader(self.batch, self.trainer.global_step, self.steps)

    def val_dataloader(self) -> DataLoader[Any]:
        """Held-out traces of this rank; every rank gets the same number of batches.

        They are padded in full whatever the layout, so that losses compare between layouts.
        """
        rank, world = distributed.rank(), distributed.world_size()
        count, size = len(self.validation), self.train_batch_size
        mine = range(rank, count, world)
        batches = math.ceil(math.ceil(count / world) / size)  # of the rank with the most rows

        def make(number: int) -> TraceBatch:
            rows = [(i, i, self.validation[i]) for i in mine[number * size : (number + 1) * size]]
            # A rank without a row left keeps the others company.
            rows = rows or [(COMPANY, 0, self.validation[0])]
            return collate_traces(0, rows, count, self.layout.completion_length, self.layout)

        return _loader(make, 0, batches)
