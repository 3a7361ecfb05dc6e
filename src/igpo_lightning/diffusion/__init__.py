"""Masked diffusion as pure tensor code: noising, denoising, likelihood."""

from igpo_lightning.diffusion.likelihood import TokenScores, mean_field_scores
from igpo_lightning.diffusion.sampler import DenoiseOutput, SamplerConfig, denoise

__all__ = ["DenoiseOutput", "SamplerConfig", "TokenScores", "denoise", "mean_field_scores"]
