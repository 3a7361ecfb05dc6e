"""Masked diffusion backbones behind one interface: tokens in, aligned logits out."""

from igpo_lightning.models.backbone import Backbone
from igpo_lightning.models.loading import load_backbone, load_tokenizer, save_export

__all__ = ["Backbone", "load_backbone", "load_tokenizer", "save_export"]
