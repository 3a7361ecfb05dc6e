"""At LLaDA's vocabulary token scores need at most a fifth of the straightforward memory."""

import pytest
import torch

from igpo_lightning.models.tiny import TinyBackbone
from tests.small_backbones import tiny_config

WORDS, POSITIONS = 126_464, 256


def test_peak_bytes_counts_what_lives_at_one_time(memory_benchmark):
    """Three tensors of 4 MB, of which two live at once."""

    def run() -> torch.Tensor:
        first = torch.ones(1_000_000)
        second = first.exp()
        del first
        return second.log()

    peak = memory_benchmark.peak_bytes(run, torch.device("cpu"))
    assert peak == pytest.approx(8_000_000, rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("trained", [False, True])
def test_values_and_gradients_at_a_fifth_of_the_memory(memory_benchmark, trained):
    torch.manual_seed(0)
    untied = {"tie_word_embeddings": False, "initializer_range": 0.3}
    config = tiny_config(WORDS, hidden_size=8, intermediate_size=16, **untied)
    model = TinyBackbone(config)
    hidden = torch.randn(POSITIONS, 8, requires_grad=True)
    tokens = torch.randint(WORDS, (POSITIONS,))
    rows = memory_benchmark.head_rows(model, hidden, tokens, trained, repeats=0)
    chunked = next(row for row in rows if row["version"] == "chunks of words")
    assert chunked["peak_share"] <= 1 / 5
    assert chunked["value_difference"] <= 1e-5
    assert chunked["gradient_difference"] <= 1e-5
    assert chunked["entropy_error"] <= 1e-5
