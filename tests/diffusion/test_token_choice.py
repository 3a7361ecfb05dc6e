"""How tokens are drawn and scored, by hand-made logits."""

from dataclasses import replace

import pytest
import torch

from igpo_lightning.diffusion.noise import row_keys
from igpo_lightning.diffusion.token_choice import (
    TokenRules,
    choose_tokens,
    filter_logits,
    head_rows,
)
from igpo_lightning.settings import SamplerConfig

LOGITS = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
GREEDY = SamplerConfig()


def choose(logits: torch.Tensor, rules: TokenRules, keys: torch.Tensor | None = None):
    return choose_tokens(torch.clone, logits, rules, keys)


def test_the_most_probable_allowed_token_and_its_probability() -> None:
    """Without token 0 the others have 0.3 / 0.5, 0.15 / 0.5 and 0.05 / 0.5."""
    tokens, scores = choose(LOGITS[None], TokenRules(GREEDY, forbidden=(0,)))
    assert tokens.tolist() == [1]
    assert scores.tolist() == pytest.approx([0.6])


def test_filters_by_hand() -> None:
    def kept(top_k: int | None, top_p: float | None) -> list[int]:
        return filter_logits(LOGITS[None], top_k, top_p)[0].isfinite().nonzero().flatten().tolist()

    assert kept(None, None) == kept(9, 1.0) == [0, 1, 2, 3]
    assert kept(2, None) == [0, 1]
    assert kept(None, 0.4) == [0]  # the first reaches 0.4 alone
    assert kept(None, 0.7) == [0, 1]  # 0.5 + 0.3
    assert kept(None, 0.9) == [0, 1, 2]
    assert kept(2, 0.6) == [0]  # of the two, 0.5 / 0.8 = 0.625


@pytest.mark.parametrize(("temperature", "power"), [(1.0, 1), (0.5, 2)])
def test_draws_follow_the_tempered_softmax(temperature: float, power: int) -> None:
    """20,000 draws: the standard deviation of a share is at most 0.5 / sqrt(20,000) = 0.0035."""
    number = 20_000
    rules = TokenRules(replace(GREEDY, temperature=temperature), forbidden=())
    tokens, scores = choose(LOGITS.expand(number, 4), rules, row_keys(list(range(number))))
    shares = tokens.bincount(minlength=4) / number
    expected = LOGITS.exp() ** power / (LOGITS.exp() ** power).sum()
    assert torch.allclose(shares, expected, atol=0.015)
    # Confidence is of the model's own distribution, whatever the temperature.
    assert torch.allclose(scores, LOGITS.exp()[tokens])


def test_last_ids_are_scored_below_everything() -> None:
    logits = torch.stack((LOGITS, LOGITS.flip(0)))  # tokens 0 and 3 are chosen
    tokens, scores = choose(logits, TokenRules(GREEDY, forbidden=(), last=(0,)))
    assert tokens.tolist() == [0, 3]
    assert scores[0] == -torch.inf
    assert scores[1] == pytest.approx(0.5)


def test_pieces_of_the_head_give_the_same_as_one_call() -> None:
    logits = torch.randn(7, 300, generator=torch.Generator().manual_seed(0))
    rules, keys = TokenRules(replace(GREEDY, temperature=0.8), (3,)), row_keys(list(range(7)))
    calls: list[int] = []

    def project(hidden: torch.Tensor) -> torch.Tensor:
        calls.append(len(hidden))
        return hidden.clone()

    whole = choose_tokens(project, logits, rules, keys)
    pieces = choose_tokens(project, logits, rules, keys, rows_per_call=3)
    assert calls == [7, 3, 3, 1]
    assert torch.equal(whole[0], pieces[0])
    assert torch.equal(whole[1], pieces[1])


def test_a_call_of_the_head_on_a_cpu_stays_within_32_mib() -> None:
    assert head_rows(126_464, torch.device("cpu")) * 126_464 * 4 <= 2**25
    assert head_rows(1 << 30, torch.device("cpu")) == 1
