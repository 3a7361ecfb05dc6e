"""Answer prompts: rows through the sampler, so many at a time, back in the order they came."""

import functools
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from igpo_lightning import distributed
from igpo_lightning.data.collate import pad_left
from igpo_lightning.data.prompts import EncodedProblem
from igpo_lightning.diffusion.cache import empty_pass
from igpo_lightning.diffusion.canvas import WORK
from igpo_lightning.diffusion.drift import NO_DRIFT
from igpo_lightning.diffusion.forward_process import live_mask
from igpo_lightning.diffusion.noise import row_keys
from igpo_lightning.diffusion.sampler import (
    ALL_ROWS,
    DenoiseOutput,
    SamplerConfig,
    Slots,
    denoise,
    mixes_blocks,
)
from igpo_lightning.errors import RunError
from igpo_lightning.models import BackboneModule
from igpo_lightning.runs.leaving import Leave
from igpo_lightning.runs.signs import Signs

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Completions:
    """Completions of a batch with the prompts they answer.

    Attributes:
        prompt_ids: [N, P], padded on the left.
        prompt_mask: [N, P], True at real tokens.
        output: What the sampler returned.
    """

    prompt_ids: Tensor
    prompt_mask: Tensor
    output: DenoiseOutput


@contextmanager
def without_dropout(model: torch.nn.Module) -> Iterator[None]:
    """Sampling and scoring see the policy itself, not a thinned one."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def micro_batches(lengths: Sequence[int], limit: int, token_budget: int | None) -> list[list[int]]:
    """Rows that go through the sampler together, shortest first.

    Args:
        lengths: Canvas positions of each row without padding.
        limit: Rows of a micro-batch, where there is no budget.
        token_budget: Canvas positions of a micro-batch, its padding included; a row that is longer
            than the budget goes alone.

    Returns:
        Row numbers of each micro-batch; every row once. Rows of equal length keep their order, so
        that the samples of a prompt stay together.
    """
    batches: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lambda row: lengths[row]):
        rows = len(batches[-1]) + 1 if batches else 0
        # Rows come by length: this one is the longest, and decides the padding.
        fits = rows <= limit if token_budget is None else rows * lengths[row] <= token_budget
        if batches and fits:
            batches[-1].append(row)
        else:
            batches.append([row])
    return batches


@dataclass(frozen=True)
class Answerer:
    """A model with its sampler, for evaluations and rollouts alike.

    Attributes:
        model: The backbone.
        tokenizer: Of its texts.
        config: Of the sampler; its `token_budget`, where set, takes the place of `rows`.
        rows: Of a denoising pass; those that are done make place for others (slots.py).
        signs: Told of every pass.
        leave: Asked ahead of every pass.
    """

    model: BackboneModule
    tokenizer: PreTrainedTokenizerFast
    config: SamplerConfig
    rows: int
    signs: Signs = field(default_factory=Signs)
    leave: Leave = field(default_factory=Leave)

    def answer(
        self,
        problems: Sequence[EncodedProblem],
        seeds: Sequence[int],
        device: torch.device,
        hint_ids: Tensor | None = None,
        on_rows: Callable[[list[int], Tensor], None] | None = None,
        together: bool = False,
    ) -> Completions:
        """Complete one row for each problem, without dropout.

        Args:
            problems: N problems; a problem may stand more than once. N may be 0, for a rank that
                only goes along with the others.
            seeds: N row seeds: a row's completion follows from its prompt, hints and seed.
            device: Where the model computes.
            hint_ids: [N, C], -1 where free.
            on_rows: Told the row numbers and completions [n, C] of rows that are done; what it
                starts in the background goes on while others are denoised.
            together: Whether all ranks answer at the same time; they make the same number of
                forward passes then. One that has made fewer goes on with passes on a single row,
                and one that shares the model's weights does so in any case.

        Raises:
            RunError: A single row needs more memory than there is.
        """
        model, config = self.model, self.config
        # Without rows, one that no pass takes gives its shape.
        prompts = [p.prompt_ids for p in problems] or [[model.pad_token_id]]
        prompt_ids, prompt_mask = (t.to(device) for t in pad_left(prompts, model.pad_token_id))
        keys = row_keys(list(seeds), device)
        hints = None if hint_ids is None else hint_ids.to(device)
        outputs: list[DenoiseOutput] = []
        order: list[int] = []
        with without_dropout(model), distributed.gathered(model):
            ranks = self.leave.between_passes(distributed.lockstep_of(model))
            apart = together and not ranks.shared
            # A pass that runs out of memory must leave ranks that share the weights in step.
            splits = not ranks.shared or (model.finishes_passes and config.compile == "none")

            def run(rows: list[int], slots: Slots = ALL_ROWS) -> DenoiseOutput:
                a_pass = min(len(rows), self.rows) * config.completion_length / config.steps
                padding = prompt_ids.shape[1] - max(len(problems[row].prompt_ids) for row in rows)
                return denoise(
                    model,
                    prompt_ids[rows, padding:],
                    config,
                    prompt_mask=prompt_mask[rows, padding:],
                    hint_ids=None if hints is None else hints[rows],
                    keys=keys[rows],
                    ranks=ranks.watched(lambda: self.signs.advance(a_pass)),  # in tokens
                    slots=slots,
                )

            with self.leave.meeting(apart):
                if mixes_blocks(model, config) and problems:
                    order = list(range(len(problems)))
                    slots = Slots(
                        self.rows, config.token_budget, on_rows, _halve if splits else None
                    )
                    self.signs.expect(config.steps * math.ceil(len(order) / self.rows))
                    with _out_of_memory_named():
                        outputs.append(run(order, slots))
                else:
                    lengths = [len(p.prompt_ids) + config.completion_length for p in problems]
                    queue = micro_batches(lengths, self.rows, config.token_budget)
                    self.signs.expect(config.steps * len(queue))
                    while queue:
                        rows = queue.pop(0)
                        done = _unless_out_of_memory(run, rows, splits)
                        if done is None:
                            queue[:0] = [rows[: len(rows) // 2], rows[len(rows) // 2 :]]
                            continue
                        outputs.append(done)
                        order += rows
                        if on_rows is not None:
                            on_rows(rows, done.completion_ids)
            company = functools.partial(empty_pass, model, prompt_ids[:1])
            ranks.finish(company)
            made = sum(output.forward_passes for output in outputs)
            missing = 0
            if apart:
                missing = distributed.max_over_ranks(made) - made
            for _ in range(missing):
                company()
        if not problems:
            return Completions(prompt_ids[:0], prompt_mask[:0], self._nothing(device, missing))
        return Completions(prompt_ids, prompt_mask, _joined(outputs, order, missing))

    def _nothing(self, device: torch.device, passes: int) -> DenoiseOutput:
        """What no rows become."""
        ids = torch.zeros(0, self.config.completion_length, dtype=torch.long, device=device)
        return DenoiseOutput(ids, ids.bool(), ids, ids.float(), passes)

    def texts(self, completion_ids: Tensor) -> list[str]:
        """Texts of completions [N, C], each up to its first EOS."""
        eos = self.model.eos_token_id
        kept = live_mask(completion_ids, eos) & (completion_ids != eos)
        rows = [row[mask].tolist() for row, mask in zip(completion_ids, kept, strict=True)]
        texts: list[str] = self.tokenizer.batch_decode(rows)
        return texts


def _halve(rows: int) -> None:
    """Make room after a pass that ran out of memory."""
    torch.cuda.empty_cache()
    log.warning("out of memory with %d rows a denoising pass: going on with half", rows)


@contextmanager
def _out_of_memory_named() -> Iterator[None]:
    """Say which settings to lower where memory is too small for what cannot be split.

    Raises:
        RunError: In place of the error.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise RunError(
            "out of memory with one row a denoising pass, or with rows that cannot be split; lower "
            "stage.rollout_batch_size or eval.batch_size, or set sampler.token_budget"
        ) from error


def _unless_out_of_memory(
    run: Callable[[list[int]], DenoiseOutput], rows: list[int], splits: bool
) -> DenoiseOutput | None:
    """A micro-batch's output; None where the memory was too small and its halves may be tried.

    Args:
        run: Denoises rows.
        rows: The micro-batch.
        splits: Whether it may be split. Ranks that share the model's weights are within a common
            forward pass, which not every model can leave; see `Backbone`.

    Raises:
        RunError: The memory is too small and the micro-batch cannot be split.
    """
    with _out_of_memory_named():
        try:
            return run(rows)
        except torch.OutOfMemoryError:
            if len(rows) == 1 or not splits:
                raise
    # Only here the traceback, and with it the tensors of the attempt, are gone.
    _halve(len(rows))
    return None


def _joined(outputs: list[DenoiseOutput], order: list[int], company: int) -> DenoiseOutput:
    """One output of several; row i of them, counted through, becomes row order[i].

    Args:
        outputs: Of the micro-batches.
        order: [N], the rows in the order of the outputs.
        company: Forward passes that only kept ranks in step.
    """
    back = torch.tensor(order).argsort().to(outputs[0].completion_ids.device)
    work = {name: sum(getattr(o, name) for o in outputs) for name in WORK}
    work["forward_passes"] += company
    return DenoiseOutput(
        completion_ids=torch.cat([o.completion_ids for o in outputs])[back],
        hint_mask=torch.cat([o.hint_mask for o in outputs])[back],
        unmask_step=torch.cat([o.unmask_step for o in outputs])[back],
        unmask_score=torch.cat([o.unmask_score for o in outputs])[back],
        **work,
        drift=sum((o.drift for o in outputs), NO_DRIFT),
    )
