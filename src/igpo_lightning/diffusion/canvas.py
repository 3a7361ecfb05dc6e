"""The state of a denoising call: what is filled, what is masked, and which rows still take part."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from igpo_lightning.diffusion.cache import Passes
from igpo_lightning.diffusion.drift import Drift, DriftMeter
from igpo_lightning.diffusion.token_choice import TokenRules
from igpo_lightning.distributed.lockstep import Lockstep
from igpo_lightning.inpainting.hints import FREE
from igpo_lightning.settings import SamplerConfig

HINTED = -1  # in unmask_step: the position was given, no step committed it


@dataclass(frozen=True)
class DenoiseOutput:
    """What the sampler made of a batch of prompts, and what it cost (see `Work`).

    Attributes:
        completion_ids: [B, C], no mask token left.
        hint_mask: [B, C], True where the token was given as a hint.
        unmask_step: [B, C], the denoising step (counted over all blocks) that committed the token,
            the last one where it was masked again; -1 for hints. A parallel rule counts the row's
            own steps. Positions filled by `stop_after_eos` bear the step that ended the row.
        unmask_score: [B, C] float32, the score that the token was committed with: its probability,
            as the sampler saw it, where `remasking` is "low_confidence". 1 where no step chose it.
        drift: From the exact policy, where it was measured.
    """

    completion_ids: Tensor
    hint_mask: Tensor
    unmask_step: Tensor
    unmask_score: Tensor
    forward_passes: int
    head_positions: int = 0
    body_tokens: int = 0
    canvas_tokens: int = 0
    row_passes: int = 0
    slot_passes: int = 0
    drift: Drift = field(default_factory=Drift)

    @property
    def cached_share(self) -> float:
        """Share of the rows' positions that a cache (or an equal row) spared the body."""
        return 1 - self.body_tokens / self.canvas_tokens if self.canvas_tokens else 0.0


@dataclass
class Canvas:
    """The state of a denoising call; everything is changed in place.

    Attributes:
        ids: [B, L].
        hint_mask: [B, C].
        free: [B, C], True where the token is still masked.
        unmask_step: [B, C].
        unmask_score: [B, C] float32.
        keys: [B] int64, or None where nothing is random.
        ranks: See `denoise`.
        paddings: [B], padding of each row, on the left.
        drift: Measures some of the steps; None where nothing is measured.
    """

    ids: Tensor
    hint_mask: Tensor
    free: Tensor
    unmask_step: Tensor
    unmask_score: Tensor
    keys: Tensor | None
    passes: Passes
    rules: TokenRules
    config: SamplerConfig
    ranks: Lockstep
    paddings: list[int]
    drift: DriftMeter | None = None

    @property
    def prompt_length(self) -> int:
        """P."""
        return self.ids.shape[1] - self.free.shape[1]

    def completions(self, rows: list[int]) -> Tensor:
        """[n, C] of some rows."""
        return self.ids[rows, self.prompt_length :]


def hinted(prompt_ids: Tensor, hint_ids: Tensor | None, length: int, mask_id: int) -> Tensor:
    """The starting completion [B, C]: hint-injected initialisation, masks elsewhere."""
    completion = prompt_ids.new_full((prompt_ids.shape[0], length), mask_id)
    if hint_ids is None:
        return completion
    if hint_ids.shape != completion.shape:
        raise ValueError(f"hint_ids is {tuple(hint_ids.shape)}, not {tuple(completion.shape)}")
    return torch.where(hint_ids != FREE, hint_ids, completion)


def end_rows(
    canvas: Canvas, rows: list[int], finished: list[int], steps_taken: list[int]
) -> list[bool]:
    """Fill rows with EOS whose finished blocks hold one; returns which of the A rows these are.

    `finished` [A] are the tokens of the completion in finished blocks, `steps_taken` [A] the steps
    of each row so far.
    """
    start, device = canvas.prompt_length, canvas.ids.device
    eos_token_id = canvas.passes.model.eos_token_id
    place = torch.arange(canvas.free.shape[1], device=device)
    ends = torch.tensor(finished).to(device)[:, None]
    is_eos = canvas.ids[rows, start:] == eos_token_id
    ended: list[bool] = (is_eos & (place < ends)).any(dim=1).tolist()
    for row, end, taken, over in zip(rows, finished, steps_taken, ended, strict=True):
        if over:
            rest = canvas.free[row, end:]
            canvas.ids[row, start + end :].masked_fill_(rest, eos_token_id)
            canvas.unmask_step[row, end:].masked_fill_(rest, max(0, taken - 1))
            rest.fill_(False)
    return ended


def mask_again(canvas: Canvas, row: int, blocks: range) -> None:
    """Undo all commits in some blocks of a row."""
    width = canvas.config.block_length
    inside = slice(blocks.start * width, blocks.stop * width)
    free = ~canvas.hint_mask[row, inside]
    canvas.free[row, inside] = free
    canvas.unmask_step[row, inside] = HINTED
    canvas.unmask_score[row, inside] = 1.0
    completion = canvas.ids[row, canvas.prompt_length :]
    completion[inside].masked_fill_(free, canvas.passes.model.mask_token_id)
