"""Generate, decode and grade a batch: what evaluation and rollouts share."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from igpo_lightning.data.collate import pad_left
from igpo_lightning.data.prompts import EncodedProblem
from igpo_lightning.diffusion.cache import empty_pass
from igpo_lightning.diffusion.forward_process import live_mask
from igpo_lightning.diffusion.noise import row_keys
from igpo_lightning.diffusion.sampler import DenoiseOutput, SamplerConfig, denoise
from igpo_lightning.distributed.lockstep import SOLO, Lockstep
from igpo_lightning.errors import RunError
from igpo_lightning.models.backbone import Backbone

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


def complete(
    model: Backbone,
    problems: Sequence[EncodedProblem],
    seeds: Sequence[int],
    config: SamplerConfig,
    device: torch.device,
    batch_size: int,
    hint_ids: Tensor | None = None,
    passes: int | None = None,
    ranks: Lockstep = SOLO,
    on_rows: Callable[[list[int], Tensor], None] | None = None,
) -> Completions:
    """Complete one row for each problem, in micro-batches of similar length.

    Args:
        model: The backbone.
        problems: N problems; a problem may stand more than once.
        seeds: N row seeds: a row's completion follows from its prompt, hints and seed.
        config: Of the sampler; its `token_budget`, where set, takes the place of `batch_size`.
        device: Where the model is.
        batch_size: Rows of a micro-batch.
        hint_ids: [N, C], -1 where free.
        passes: Micro-batches to make at least; what is missing is made up by denoising the last
            one again. Without effect where ranks share the model.
        ranks: Those that share the model's weights: a rank that is done makes empty passes until
            all ranks are done.
        on_rows: Told the row numbers and completions [n, C] of each micro-batch as soon as it is
            done; what it starts in the background goes on while the next one is denoised.
    """
    prompt_ids, prompt_mask = pad_left([p.prompt_ids for p in problems], model.pad_token_id)
    prompt_ids, prompt_mask = prompt_ids.to(device), prompt_mask.to(device)
    keys = row_keys(list(seeds), device)
    hints = None if hint_ids is None else hint_ids.to(device)
    lengths = [len(p.prompt_ids) + config.completion_length for p in problems]
    batches = micro_batches(lengths, batch_size, config.token_budget)
    missing = max(0, (passes or 0) - len(batches)) if not ranks.shared else 0
    outputs: list[DenoiseOutput] = []
    order: list[int] = []

    def run(rows: list[int]) -> DenoiseOutput:
        padding = prompt_ids.shape[1] - max(len(problems[row].prompt_ids) for row in rows)
        return denoise(
            model,
            prompt_ids[rows, padding:],
            config,
            prompt_mask=prompt_mask[rows, padding:],
            hint_ids=None if hints is None else hints[rows],
            keys=keys[rows],
            ranks=ranks,
        )

    queue, splits = list(batches), not ranks.shared or _finishes(model, config)
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
    company = [run(rows) for _ in range(missing)]
    ranks.finish(lambda: empty_pass(model, prompt_ids[:1]))
    joined = _joined(outputs, order)
    passes_made = sum(output.forward_passes for output in [*outputs, *company])
    return Completions(prompt_ids, prompt_mask, replace(joined, forward_passes=passes_made))


def _finishes(model: Backbone, config: SamplerConfig) -> bool:
    """Whether a pass that runs out of memory leaves ranks that share the weights in step."""
    return model.finishes_passes and config.compile == "none"


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
    try:
        return run(rows)
    except torch.OutOfMemoryError as error:
        if len(rows) == 1 or not splits:
            raise RunError(
                f"out of memory with {len(rows)} rows a denoising pass; lower "
                "stage.rollout_batch_size or eval.batch_size, or set sampler.token_budget"
            ) from error
    # Only here the traceback, and with it the tensors of the attempt, are gone.
    torch.cuda.empty_cache()
    log.warning("out of memory with %d rows a denoising pass: going on with half", len(rows))
    return None


def _joined(outputs: list[DenoiseOutput], order: list[int]) -> DenoiseOutput:
    """One output of several; row i of them, counted through, becomes row order[i]."""
    back = torch.tensor(order).argsort().to(outputs[0].completion_ids.device)
    return DenoiseOutput(
        completion_ids=torch.cat([o.completion_ids for o in outputs])[back],
        hint_mask=torch.cat([o.hint_mask for o in outputs])[back],
        unmask_step=torch.cat([o.unmask_step for o in outputs])[back],
        forward_passes=sum(o.forward_passes for o in outputs),
        head_positions=sum(o.head_positions for o in outputs),
        body_tokens=sum(o.body_tokens for o in outputs),
        canvas_tokens=sum(o.canvas_tokens for o in outputs),
    )


def decode_live(
    completion_ids: Tensor, tokenizer: PreTrainedTokenizerFast, eos_token_id: int
) -> list[str]:
    """Texts of completions [N, C], each up to its first EOS."""
    kept = live_mask(completion_ids, eos_token_id) & (completion_ids != eos_token_id)
    rows = [row[mask].tolist() for row, mask in zip(completion_ids, kept, strict=True)]
    texts: list[str] = tokenizer.batch_decode(rows)
    return texts
