"""Lightning data modules: which batch stands at which global step.

Lightning does not move a plain loader forward on resume. Here the batch of a step is a function of
(seed, step), and the loader starts at the step that the run has reached.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import lightning
from torch.utils.data import DataLoader, Dataset

from igpo_lightning import distributed
from igpo_lightning.data.collate import (
    PromptBatch,
    collate_traces,
    evaluation_batches,
    rank_positions,
)
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
        return max(0, self.stop - self.start)


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
        completion_length: int,
        pad_id: int,
        eos_id: int,
    ) -> None:
        """`example(i)` is the problem at place i of the endless training stream."""
        super().__init__()
        self.example, self.validation = example, validation
        self.steps, self.batch_size, self.train_batch_size = steps, batch_size, train_batch_size
        self.collation = (completion_length, pad_id, eos_id)

    def batch(self, step: int) -> Any:
        """The examples of one step on this rank."""
        positions = rank_positions(
            step, self.batch_size, distributed.rank(), distributed.world_size()
        )
        problems = [self.example(position) for position in positions]
        return collate_traces(step, positions, problems, *self.collation)

    def train_dataloader(self) -> DataLoader[Any]:
        """The remaining steps."""
        assert self.trainer is not None
        return _loader(self.batch, self.trainer.global_step, self.steps)

    def val_dataloader(self) -> DataLoader[Any]:
        """Held-out traces of this rank; every rank gets the same number of batches."""
        rank, world = distributed.rank(), distributed.world_size()
        usable = len(self.validation) // world * world
        mine = list(range(rank, usable, world))
        size = self.train_batch_size
        parts = [mine[start : start + size] for start in range(0, len(mine), size)]

        def make(number: int) -> Any:
            rows = parts[number]
            problems = [self.validation[i] for i in rows]
            return collate_traces(0, rows, problems, *self.collation)

        return _loader(make, 0, len(parts))
