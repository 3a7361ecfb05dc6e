"""Small models, problems and settings that the sampler's tests share."""

from dataclasses import replace

import torch
from torch import Tensor

from igpo_lightning.diffusion.noise import row_keys
from igpo_lightning.models.tiny import TinyBackbone, TinyConfig
from igpo_lightning.settings import SamplerConfig

VOCAB, MASK, EOS = 61, 0, 1


def tiny(scale: float = 0.3, seed: int = 0, **sizes: int) -> TinyBackbone:
    """A small model whose logits differ enough that rounding decides nothing."""
    sizes = {
        "vocab_size": VOCAB,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        **sizes,
    }
    model = TinyBackbone(TinyConfig(initializer_range=scale, **sizes))
    model.initialize(torch.Generator().manual_seed(seed))
    return model.eval()


def allowing(model: TinyBackbone, tokens: set[int]) -> TinyBackbone:
    """The model with a head that gives these tokens alone."""
    project = model.project
    banned = torch.tensor([token for token in range(VOCAB) if token not in tokens])
    model.project = lambda hidden: project(hidden).index_fill(-1, banned, -torch.inf)
    return model


def problem(seed: int, batch: int, length: int) -> dict[str, Tensor]:
    """Prompts of different lengths, padded left, and random hints."""
    generator = torch.Generator().manual_seed(seed)
    prompts = torch.randint(3, VOCAB, (batch, 6), generator=generator)
    real = torch.randint(1, 7, (batch, 1), generator=generator)
    mask = torch.arange(6) >= 6 - real
    hints = torch.randint(3, VOCAB, (batch, length), generator=generator)
    free = torch.rand(batch, length, generator=generator) < 0.7
    free[0] = True
    return {
        "prompt_ids": prompts.masked_fill(~mask, 2),
        "prompt_mask": mask,
        "hint_ids": hints.masked_fill(free, -1),
        "keys": row_keys([seed * 100 + i for i in range(batch)]),
    }


BASE = SamplerConfig(16, 8, 8)
CONFIGS = {
    "blocks": BASE,
    "full_diffusion": SamplerConfig(16, 16, 16),
    "uneven": SamplerConfig(16, 8, 6),
    "temperature": replace(BASE, temperature=0.7),
    "hot": replace(BASE, temperature=1.5),
    "top_k": replace(BASE, temperature=1.0, top_k=5),
    "top_p": replace(BASE, temperature=1.0, top_p=0.8),
    "top_k_and_top_p": replace(BASE, temperature=1.0, top_k=10, top_p=0.6),
    "random": replace(BASE, remasking="random"),
    "entropy": replace(BASE, remasking="entropy"),
    "margin": replace(BASE, remasking="margin"),
    "topk_margin": replace(BASE, remasking="topk_margin", temperature=0.8, top_k=6),
    "guidance": replace(BASE, cfg_scale=1.5),
    "threshold": replace(BASE, confidence_threshold=0.3),
    "threshold_and_temperature": replace(BASE, confidence_threshold=0.2, temperature=0.9),
    "factor": replace(BASE, factor=1.6),
}
