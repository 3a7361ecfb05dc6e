"""The draws for CPUs against the plain arg-max of all scores."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from igpo_lightning.diffusion.cpu_draws import pruned_gumbel_argmax, two_level_argmax
from igpo_lightning.diffusion.noise import NoiseBuffers, gumbel, row_keys


@settings(max_examples=50, deadline=None)
@given(
    values=st.lists(st.integers(-3, 3), min_size=1, max_size=6),
    size=st.sampled_from([1, 5, 127, 128, 129, 256, 300]),
    seed=st.integers(0, 100),
)
def test_two_level_argmax_is_argmax_and_takes_the_first(
    values: list[int], size: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.tensor(values)[torch.randint(len(values), (3, size), generator=generator)]
    expected = [row.index(max(row)) for row in scores.tolist()]
    assert two_level_argmax(scores.float()).tolist() == expected


def test_argmax_of_a_row_of_minus_infinities_but_one() -> None:
    scores = torch.full((1, 260), -torch.inf)
    scores[0, 258] = -5.0
    assert two_level_argmax(scores).tolist() == [258]


@settings(max_examples=50, deadline=None)
@given(
    scale=st.sampled_from([0.0, 0.1, 1.0, 5.0, 40.0, 1e4]),
    temperature=st.sampled_from([1e-3, 0.3, 1.0, 1.2, 3.0, 50.0]),
    size=st.sampled_from([1, 2, 61, 1000]),
    seed=st.integers(0, 1000),
)
def test_pruned_noise_draws_what_all_of_the_noise_draws(
    scale: float, temperature: float, size: int, seed: int
) -> None:
    """The same token from flat to peaked logits; the first and the last token are forbidden."""
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(8, size, generator=generator)
    if size > 2:
        logits[:, 0] = logits[:, -1] = -torch.inf
    keys = row_keys([seed * 8 + i for i in range(8)])
    buffers = NoiseBuffers.allocate(8, size, logits.device)
    drawn = pruned_gumbel_argmax(logits, keys, temperature, buffers)
    assert torch.equal(drawn, (gumbel(keys, size) * temperature + logits).argmax(dim=-1))
