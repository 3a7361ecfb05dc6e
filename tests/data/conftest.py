"""A small real tokenizer for tests of what a model sees."""

import pytest
from transformers import PreTrainedTokenizerFast

from igpo_lightning.models.tokenizer import train_tokenizer


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level, one token a digit, with the embedded model's chat template."""
    return train_tokenizer(["What is 2+3? It is \\boxed{5}. Put the answer here."] * 4, 300)
