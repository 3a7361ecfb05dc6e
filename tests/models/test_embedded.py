"""The checkpoints that come with the package."""

import torch

from igpo_lightning.models import load_backbone, load_tokenizer
from igpo_lightning.models.configuration import EMBEDDED


def test_every_embedded_checkpoint_loads_and_shares_the_tokenizer() -> None:
    assert len(EMBEDDED) == 2
    models = [load_backbone(name) for name in EMBEDDED]
    first, second = (dict(model.named_parameters()) for model in models)
    assert {n: p.shape for n, p in first.items()} == {n: p.shape for n, p in second.items()}
    assert any(not torch.equal(first[name], second[name]) for name in first)
    texts = [load_tokenizer(name)("A+12 B-21 from 45")["input_ids"] for name in EMBEDDED]
    assert texts[0] == texts[1]
