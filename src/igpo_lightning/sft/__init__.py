"""Supervised fine-tuning of a masked diffusion model."""

from igpo_lightning.sft.loss import nelbo

__all__ = ["nelbo"]
