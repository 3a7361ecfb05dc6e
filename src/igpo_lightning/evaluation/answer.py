"""Answer prompts: rows through the sampler, so many at a time."""

import functools
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from igpo_lightning import distributed
from igpo_lightning.data.collate import pad_left
from igpo_lightning.data.prompts import EncodedProblem
from igpo_lightning.diffusion.cache import empty_pass
from igpo_lightning.diffusion.forward_process import live_mask
from igpo_lightning.diffusion.noise import row_keys
from igpo_lightning.diffusion.sampler import DenoiseOutput, SamplerConfig, Slots, denoise
from igpo_lightning.errors import RunError
from igpo_lightning.models import BackboneModule
from igpo_lightning.runs.leaving import Leave
from igpo_lightning.runs.signs import Signs

log = logging.getLogger(__name__)


@contextmanager
def without_dropout(model: torch.nn.Module) -> Iterator[None]:
    """Sampling and scoring see the policy itself, not a thinned one."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


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
    ) -> DenoiseOutput:
        """Complete one row for each problem, without dropout.

        Args:
            problems: N problems; a problem may stand more than once. N may be 0, for a rank that
                only goes along with the others.
            seeds: N row seeds: a row's completion follows from its prompt, hints and seed.
            device: Where the model computes.
            hint_ids: [N, C], -1 where free.
            on_rows: See `Slots`.
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
        with without_dropout(model), distributed.gathered(model):
            ranks = self.leave.between_passes(distributed.lockstep_of(model))
            apart = together and not ranks.shared
            # A pass that runs out of memory must leave ranks that share the weights in step.
            splits = not ranks.shared or (model.finishes_passes and config.compile == "none")

            rows = min(len(problems), self.rows)
            a_pass = rows * config.completion_length / config.steps  # in tokens
            self.signs.expect(config.steps * math.ceil(len(problems) / self.rows))
            output = self._nothing(device)
            with self.leave.meeting(apart), _out_of_memory_named():
                if problems:
                    output = denoise(
                        model,
                        prompt_ids,
                        config,
                        prompt_mask=prompt_mask,
                        hint_ids=None if hint_ids is None else hint_ids.to(device),
                        keys=row_keys(list(seeds), device),
                        ranks=ranks.watched(lambda: self.signs.advance(a_pass)),
                        slots=Slots(
                            self.rows, config.token_budget, on_rows, _halve if splits else None
                        ),
                    )
            company = functools.partial(empty_pass, model, prompt_ids[:1])
            ranks.finish(company)
            missing = 0
            if apart:
                missing = distributed.max_over_ranks(output.forward_passes) - output.forward_passes
            for _ in range(missing):
                company()
        return replace(output, forward_passes=output.forward_passes + missing)

    def _nothing(self, device: torch.device) -> DenoiseOutput:
        """What no rows become."""
        ids = torch.zeros(0, self.config.completion_length, dtype=torch.long, device=device)
        return DenoiseOutput(ids, ids.bool(), ids, ids.float(), 0)

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
