"""Masked diffusion as pure tensor code: noising, denoising, likelihood."""

from igpo_lightning.diffusion.likelihood import (
    MaskedInputs,
    TokenScores,
    draw_masked_inputs,
    token_scores,
)
from igpo_lightning.diffusion.sampler import DenoiseOutput, denoise
from igpo_lightning.settings import SamplerConfig

__all__ = [
    "DenoiseOutput",
    "MaskedInputs",
    "SamplerConfig",
    "TokenScores",
    "denoise",
    "draw_masked_inputs",
    "token_scores",
]
