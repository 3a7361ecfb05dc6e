"""Masked diffusion as pure tensor code: noising, denoising, likelihood."""

from igpo_lightning.diffusion.likelihood import (
    LikelihoodSettings,
    MaskedInputs,
    TokenScores,
    draw_masked_inputs,
    token_scores,
)
from igpo_lightning.diffusion.sampler import DenoiseOutput, SamplerConfig, denoise

__all__ = [
    "DenoiseOutput",
    "LikelihoodSettings",
    "MaskedInputs",
    "SamplerConfig",
    "TokenScores",
    "denoise",
    "draw_masked_inputs",
    "token_scores",
]
