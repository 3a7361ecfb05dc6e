"""The denoising loop: fill a masked completion block by block, around hints where there are any.

LLaDA's semi-autoregressive sampler (arXiv 2502.09992, section 2.4) with the hint-injected
initialisation of IGPO (arXiv 2509.10396): hints stand in the canvas from the start and stay.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from igpo_lightning.diffusion.noise import fold, gumbel
from igpo_lightning.diffusion.unmasking import commit_schedule, most_confident
from igpo_lightning.models.backbone import Backbone

FREE = -1  # in hint_ids: the sampler fills this position
HINTED = -1  # in unmask_step: the position was given, no step committed it


@dataclass(frozen=True)
class SamplerConfig:
    """Settings of the denoising loop.

    Attributes:
        completion_length: Tokens in the completion, C.
        block_length: Tokens per block; blocks are filled from left to right. Divides C.
        steps: Denoising steps over all blocks; a multiple of the number of blocks.
        temperature: Of the Gumbel-max draw; 0 takes the most probable token.
        remasking: "low_confidence": each step commits the most confident positions.
        cfg_scale: Classifier-free guidance weight; only 0 (off) is supported.
        cache: "none": every step runs the whole sequence.
        confidence_threshold: Only None (a fixed number of tokens a step) is supported.
    """

    completion_length: int
    block_length: int
    steps: int
    temperature: float = 0.0
    remasking: str = "low_confidence"
    cfg_scale: float = 0.0
    cache: str = "none"
    confidence_threshold: float | None = None

    def __post_init__(self) -> None:
        if self.completion_length % self.block_length:
            raise ValueError(
                f"completion_length={self.completion_length} is no multiple of "
                f"block_length={self.block_length}"
            )
        if self.steps < self.blocks or self.steps % self.blocks:
            raise ValueError(f"steps={self.steps} is no multiple of the {self.blocks} blocks")
        if self.temperature < 0:
            raise ValueError(f"temperature={self.temperature} is negative")
        for name, supported in (
            ("remasking", "low_confidence"),
            ("cfg_scale", 0.0),
            ("cache", "none"),
            ("confidence_threshold", None),
        ):
            if getattr(self, name) != supported:
                raise ValueError(f"{name}={getattr(self, name)!r} is unknown; use {supported!r}")

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return self.completion_length // self.block_length


@dataclass(frozen=True)
class DenoiseOutput:
    """What the sampler made of a batch of prompts.

    Attributes:
        completion_ids: [B, C], no mask token left.
        hint_mask: [B, C], True where the token was given as a hint.
        unmask_step: [B, C], the denoising step (counted over all blocks) that committed the token;
            -1 for hints.
        forward_passes: Forward passes of the model over the whole batch.
    """

    completion_ids: Tensor
    hint_mask: Tensor
    unmask_step: Tensor
    forward_passes: int


def choose_tokens(
    logits: Tensor, mask_token_id: int, temperature: float, keys: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Draw a token for each position by Gumbel-max.

    Args:
        logits: [..., V].
        mask_token_id: Never drawn.
        temperature: 0 takes the arg-max and needs no keys.
        keys: [...] int64, one for each position.

    Returns:
        Tokens [...] and their confidence [...]: the softmax probability at temperature 1.
    """
    logits = logits.float()
    logits[..., mask_token_id] = -torch.inf
    scores = logits
    if temperature > 0:
        assert keys is not None
        scores = logits.double() / temperature + gumbel(keys, logits.shape[-1])
    tokens = scores.argmax(dim=-1)
    chosen = logits.gather(-1, tokens[..., None]).squeeze(-1)
    return tokens, (chosen - logits.logsumexp(dim=-1)).exp()


def _canvas(
    model: Backbone, prompt_ids: Tensor, hint_ids: Tensor | None, length: int
) -> tuple[Tensor, Tensor]:
    """The starting canvas [B, P + C] (hint-injected initialisation) and the hint mask [B, C]."""
    batch = prompt_ids.shape[0]
    completion = prompt_ids.new_full((batch, length), model.mask_token_id)
    if hint_ids is None:
        hint_mask = torch.zeros_like(completion, dtype=torch.bool)
    else:
        if hint_ids.shape != completion.shape:
            raise ValueError(f"hint_ids is {tuple(hint_ids.shape)}, not {tuple(completion.shape)}")
        hint_mask = hint_ids != FREE
        completion = torch.where(hint_mask, hint_ids, completion)
    return torch.cat((prompt_ids, completion), dim=1), hint_mask


@torch.no_grad()
def denoise(
    model: Backbone,
    prompt_ids: Tensor,
    config: SamplerConfig,
    prompt_mask: Tensor | None = None,
    hint_ids: Tensor | None = None,
    generator: torch.Generator | None = None,
    keys: Tensor | None = None,
) -> DenoiseOutput:
    """Fill completions for a batch of prompts.

    Args:
        model: The backbone.
        prompt_ids: [B, P], padded on the left.
        config: Length, blocks, steps and temperature.
        prompt_mask: [B, P], True at real tokens; None where nothing is padded.
        hint_ids: [B, C], the tokens to keep as they are, -1 where free.
        generator: Source of the row keys when `keys` is None and the temperature is not 0.
        keys: [B] int64, one random key a row (see `noise.row_keys`). A row's completion is a
            function of its prompt, its hints and its key, whatever else is in the batch.

    Returns:
        The completions. Every call makes `config.steps` forward passes, whatever the hints, so
        that ranks that share a model stay in step.

    Raises:
        ValueError: `hint_ids` is of another shape than the completion.
    """
    device, prompt_length = prompt_ids.device, prompt_ids.shape[1]
    length, width = config.completion_length, config.block_length
    canvas, hint_mask = _canvas(model, prompt_ids, hint_ids, length)
    free = ~hint_mask  # [B, C]: still masked
    unmask_step = torch.full_like(canvas[:, prompt_length:], HINTED)
    attention_mask = None
    if prompt_mask is not None and not bool(prompt_mask.all()):
        attention_mask = torch.cat((prompt_mask.bool(), torch.ones_like(free)), dim=1)
    if keys is None and config.temperature > 0:
        high = torch.iinfo(torch.int64).max
        keys = torch.randint(high, (prompt_ids.shape[0],), generator=generator).to(device)

    steps_per_block = config.steps // config.blocks
    for block in range(config.blocks):
        inside = slice(block * width, (block + 1) * width)  # within the completion
        window = slice(prompt_length + inside.start, prompt_length + inside.stop)  # within canvas
        schedule = commit_schedule(free[:, inside].sum(dim=1), steps_per_block)
        positions = torch.arange(inside.start, inside.stop, device=device)
        for step_in_block in range(steps_per_block):
            step = block * steps_per_block + step_in_block
            hidden = model.encode(canvas, attention_mask)[:, window]
            # Head and noise for positions that are still masked only: [M, V], M <= B * width.
            masked = free[:, inside]
            masked_keys = None
            if keys is not None:
                masked_keys = fold(fold(keys, step)[:, None], positions)[masked]
            drawn, drawn_confidence = choose_tokens(
                model.project(hidden[masked]),
                model.mask_token_id,
                config.temperature,
                masked_keys,
            )
            tokens = canvas[:, window].masked_scatter(masked, drawn)
            confidence = torch.zeros_like(masked, dtype=torch.float32)
            confidence = confidence.masked_scatter(masked, drawn_confidence)
            commit = most_confident(confidence, masked, schedule[:, step_in_block])
            canvas[:, window] = torch.where(commit, tokens, canvas[:, window])
            unmask_step[:, inside].masked_fill_(commit, step)
            free[:, inside] &= ~commit
    return DenoiseOutput(canvas[:, prompt_length:], hint_mask, unmask_step, config.steps)
