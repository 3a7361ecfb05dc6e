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

_PATIENCE = 20  # places of the stream looked at for each prompt


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
        skip_accuracy: float | None = None,
    ) -> None:
        """Where prompts come from.

        Args:
            example: The problem at a place of the endless training stream.
            prompts_per_step: Q over all ranks.
            updates_per_step: Optimizer steps of a rollout step.
            skip_accuracy: Problems whose running accuracy reaches it are passed over; None: none.
        """
        super().__init__(held_out, samples, batch_size)
        self.example, self.skip_accuracy = example, skip_accuracy
        self.accuracy: dict[str, float] = {}  # of each problem that was asked
        self.steps, self.prompts_per_step = steps, prompts_per_step
        self.updates_per_step = updates_per_step
        self.position = self.skipped = 0  # of the stream; problems passed over so far

    def prompts(self, step: int) -> PromptBatch:
        """The next prompts of the stream on this rank, for a step that may need several rounds."""
        rank, world = distributed.rank(), distributed.world_size()
        whole = self._next_positions()
        positions = [whole[place] for place in rank_positions(0, len(whole), rank, world)]
        problems = [self.example(position) for position in positions]
        parts = max(1, world // self.prompts_per_step)
        return PromptBatch(
            step,
            problems,
            [0] * len(problems),
            [True] * len(problems),
            part=rank % parts,
            parts=parts,
            positions=positions,
        )

    def _next_positions(self) -> list[int]:
        """The next places of the stream, the same on every rank, without problems to skip.

        Where almost all are to be skipped they are asked again all the same.
        """
        taken: list[int] = []
        patience = _PATIENCE * self.prompts_per_step
        while len(taken) < self.prompts_per_step:
            patience -= 1
            if patience > 0 and self._is_solved(self.example(self.position)):
                self.skipped += 1
            else:
                taken.append(self.position)
            self.position += 1
        return taken

    def _is_solved(self, problem: EncodedProblem) -> bool:
        if self.skip_accuracy is None:
            return False
        return self.accuracy.get(problem.problem.id, 0.0) >= self.skip_accuracy

    def record(self, accuracy: Sequence[tuple[str, float]]) -> None:
        """Note which share of a problem's samples was right: half of a running mean."""
        for name, value in accuracy:
            self.accuracy[name] = (self.accuracy.get(name, value) + value) / 2

    def train_dataloader(self) -> DataLoader[Any]:
        """The remaining steps."""
        assert self.trainer is not None
        done = self.trainer.global_step // self.updates_per_step
        # Where nothing was resumed that says otherwise: one round a step.
        self.position = max(self.position, done * self.prompts_per_step)
        # Its length is known, so that Lightning asks for a batch when its step begins.
        return _loader(self.prompts, done, self.steps)

    def state_dict(self) -> dict[str, Any]:
        """Where the stream of prompts stands, for a checkpoint."""
        known = self.accuracy if self.skip_accuracy is not None else {}
        return {"position": self.position, "skipped": self.skipped, "accuracy": dict(known)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.position, self.skipped = int(state["position"]), int(state["skipped"])
        self.accuracy = dict(state["accuracy"])


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
