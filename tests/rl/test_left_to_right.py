"""JustGRPO and our hints on top of it: separate rows, reduction, and an update in slices."""

from dataclasses import replace

import pytest
import torch
from tiny_training import SETTINGS, STAGE, train

from igpo_lightning.settings import (
    FilterConfig,
    InpaintConfig,
    LikelihoodConfig,
    ObjectiveConfig,
    RLStage,
)

JUST = {
    "sampler": replace(
        SETTINGS.sampler,
        block_length=1,
        steps=SETTINGS.sampler.completion_length,
        stop_after_eos=False,
    ),
    "likelihood": LikelihoodConfig("autoregressive", separate=True),
    "objective": ObjectiveConfig(
        advantage="std",
        ratio="token",
        beta=0.0,
        normalization="constant",
        normalization_length=SETTINGS.sampler.completion_length,
        count_after_eos=True,
    ),
    "filter": FilterConfig("none"),
    "inpaint": InpaintConfig(trigger="never"),
    "stage": replace(STAGE, inner_updates=1),
}


def one_of_each_group(row: int, text: str) -> bool:
    return row % STAGE.group_size == 0


def test_hints_change_nothing_where_no_group_is_all_wrong():
    """igpo_just_grpo is just_grpo there, to the last bit of every weight."""
    plain = train(one_of_each_group, **JUST)
    hinted = train(
        one_of_each_group, **JUST | {"inpaint": InpaintConfig(), "filter": FilterConfig()}
    )
    assert torch.equal(plain.parameters(), hinted.parameters())
    assert plain.lines[0]["policy/grad_norm"] > 0


OWN_SCORES = {
    "just_grpo": {},
    "few positions": {"likelihood": replace(JUST["likelihood"], positions=3)},
    "one row a completion": {"likelihood": LikelihoodConfig("autoregressive")},
    "tracerl": {
        "likelihood": LikelihoodConfig("trajectory", shrink=2, separate=True),
        "objective": ObjectiveConfig(
            advantage="z_score",
            ratio="token",
            kl_target="old",
            kl_normalization="sum",
            accuracy_high=0.5,
        ),
    },
    "a reference": {"objective": ObjectiveConfig(beta=0.1)},
}


def some(row: int, text: str) -> bool:
    """Of the two groups one has one right answer, the other three."""
    return row in (0, 4, 5, 6)


@pytest.mark.parametrize("name", OWN_SCORES)
def test_the_only_update_makes_the_old_scores_itself(name: str) -> None:
    """All numbers are those of a run that scores the old policy first, but for the passes saved.

    A filter of hints asks for that pass; without hints it drops nothing.
    """
    options = JUST | in_parts(5) | OWN_SCORES[name]
    one = train(some, steps=2, **options)
    two = train(some, steps=2, **options | {"filter": FilterConfig("entropy")})
    assert torch.equal(one.parameters(), two.parameters())
    policies = 3 if name == "a reference" else 2
    for short, long in zip(one.lines, two.lines, strict=True):
        work = {key for key in long if key.split("/")[0] in ("passes", "tokens", "compute", "time")}
        assert {k: v for k, v in short.items() if k not in work} == {
            k: v for k, v in long.items() if k not in work
        }
        assert short["passes/update"] * policies == long["passes/update"] * (policies - 1)
        saved = long["tokens/update"] // policies
        assert long["compute/update"] - short["compute/update"] == saved


def in_parts(rows: int) -> dict[str, RLStage]:
    return {"stage": replace(STAGE, inner_updates=1, train_batch_size=rows)}


@pytest.mark.parametrize("rows", [1, 7, 64])
def test_the_update_does_not_depend_on_how_many_rows_it_takes_at_a_time(rows):
    whole = train(one_of_each_group, **JUST | in_parts(1024))
    parts = train(one_of_each_group, **JUST | in_parts(rows))
    torch.testing.assert_close(parts.parameters(), whole.parameters(), rtol=1e-4, atol=1e-6)


def test_separate_rows_give_the_gradient_of_whole_completions():
    """With a token ratio and a constant length the loss is the same sum, cut otherwise."""
    together = replace(JUST["likelihood"], separate=False)
    (whole,) = train(one_of_each_group, **JUST | {"likelihood": together}).lines
    (parts,) = train(one_of_each_group, **JUST).lines
    for name in ("policy/loss", "policy/grad_norm", "policy/ratio_mean", "rollout/entropy"):
        assert parts[name] == pytest.approx(whole[name], rel=1e-4, abs=1e-6)


def test_hinted_rows_are_scored_and_filtered_like_others():
    """All groups wrong at first: hints are given, and some of their tokens are learnt from."""
    calls = {"first": True}

    def right_with_hints(row: int, text: str) -> bool:
        return not calls["first"] and row % 2 == 0

    def planned(row: int, text: str) -> bool:
        verdict = right_with_hints(row, text)
        if row == 2 * STAGE.group_size - 1:
            calls["first"] = False
        return verdict

    options = {"inpaint": InpaintConfig(chunk_min=1, chunk_max=2), "filter": FilterConfig()}
    (line,) = train(planned, **JUST | options).lines
    assert line["hint/tokens"] > 0
    assert 0 < line["hint/tokens_kept"] < line["hint/tokens"]
