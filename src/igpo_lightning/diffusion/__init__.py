"""Masked diffusion as pure tensor code: noising, denoising, likelihood."""

from igpo_lightning.diffusion.completion_scores import completion_scores
from igpo_lightning.diffusion.forward_process import live_mask
from igpo_lightning.diffusion.likelihood import TokenScores, token_scores
from igpo_lightning.diffusion.masked_inputs import MaskedInputs, draw_masked_inputs
from igpo_lightning.diffusion.sampler import DenoiseOutput, denoise
from igpo_lightning.settings import SamplerConfig

__all__ = [
    "DenoiseOutput",
    "MaskedInputs",
    "SamplerConfig",
    "TokenScores",
    "completion_scores",
    "denoise",
    "draw_masked_inputs",
    "live_mask",
    "token_scores",
]
