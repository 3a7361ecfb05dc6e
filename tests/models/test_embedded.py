"""The checkpoints that come with the package."""

import pytest
import torch

from igpo_lightning.models import load_backbone, load_tokenizer
from igpo_lightning.models.configuration import EMBEDDED


@pytest.mark.parametrize("name", EMBEDDED)
def test_every_embedded_checkpoint_loads_with_its_tokenizer(name: str) -> None:
    model, tokenizer = load_backbone(name), load_tokenizer(name)
    assert len(tokenizer) <= model.vocab_size  # rounded up to a multiple of 8
    assert (model.mask_token_id, model.eos_token_id) == (
        tokenizer.mask_token_id,
        tokenizer.eos_token_id,
    )
    text = "A+12 B-21 from 45"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_the_two_starts_on_sums_differ_in_weights_alone() -> None:
    names = ("tiny", "tiny_terse")
    first, second = (dict(load_backbone(name).named_parameters()) for name in names)
    assert {n: p.shape for n, p in first.items()} == {n: p.shape for n, p in second.items()}
    assert any(not torch.equal(first[name], second[name]) for name in first)
    texts = [load_tokenizer(name)("A+12 B-21 from 45")["input_ids"] for name in names]
    assert texts[0] == texts[1]
