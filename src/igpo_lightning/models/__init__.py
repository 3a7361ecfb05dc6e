"""Masked diffusion backbones behind one interface: tokens in, aligned logits out."""

from igpo_lightning.models.backbone import Backbone, BackboneModule, KeyValueCache
from igpo_lightning.models.exporting import save_export
from igpo_lightning.models.loading import check_vocabulary, load_backbone, register_backbone
from igpo_lightning.models.tokenizer_files import load_tokenizer

__all__ = [
    "Backbone",
    "BackboneModule",
    "KeyValueCache",
    "check_vocabulary",
    "load_backbone",
    "load_tokenizer",
    "register_backbone",
    "save_export",
]
