"""Who gets extra samples, and what replaces what."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from igpo_lightning.rl.injection import inject, needs_help, plan_replacements
from igpo_lightning.rl.rollout import Rollout, all_right, all_wrong
from igpo_lightning.settings import InpaintConfig


def rollout(correct: Tensor, first: int = 0) -> Rollout:
    """Rows of two tokens that say which row of which rollout they are."""
    rows = correct.numel()
    ids = torch.arange(first, first + rows)[:, None].expand(rows, 2).clone()
    right = correct.flatten()
    return Rollout(
        prompt_ids=torch.zeros(rows, 1, dtype=torch.int64),
        prompt_mask=torch.ones(rows, 1, dtype=torch.bool),
        completion_ids=ids,
        hint_mask=torch.full((rows, 2), first > 0),
        unmask_step=ids.clone(),
        unmask_score=ids / 100,
        correct=right,
        rewards=right.float(),
        reward_parts=right.float()[:, None],
        replaced=torch.zeros(rows, dtype=torch.bool),
        texts=[str(first + i) for i in range(rows)],
        reasons=[None if r else "wrong" for r in right.tolist()],
        group_size=correct.shape[1],
    )


def verdicts(*groups: str) -> Tensor:
    """Rows like "xo": x is wrong, o is right."""
    return torch.tensor([[mark == "o" for mark in group] for group in groups])


# ---- triggers ---------------------------------------------------------------------------------

CORRECT = verdicts("xxxx", "oxxx", "oooo")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [True, False, False]),
        ({"trigger": "never"}, [False, False, False]),
        ({"trigger": "always"}, [True, True, True]),
        # The whole batch is one group: it holds right answers.
        ({"scope": "batch"}, [False, False, False]),
        ({"scope": "batch", "trigger": "always"}, [True, True, True]),
    ],
)
def test_who_gets_extra_samples(options, expected):
    settings_ = InpaintConfig(**options)
    assert needs_help(settings_, CORRECT).tolist() == expected


def test_a_batch_without_any_right_answer_is_helped_as_a_whole():
    wrong = verdicts("xx", "xx")
    assert needs_help(InpaintConfig(scope="batch"), wrong).tolist() == [True] * 2


def test_all_wrong_and_all_right_are_of_each_prompt_alone():
    assert all_wrong(CORRECT).tolist() == [True, False, False]
    assert all_right(CORRECT).tolist() == [False, False, True]


# ---- replacement ------------------------------------------------------------------------------


def test_the_first_right_samples_take_the_first_wrong_places():
    """G = 4, lambda = 1/2: at most 2. Group 0 has three right extras, group 1 one, group 2 none."""
    extra = verdicts("xooo", "xxxo", "xxxx")
    assert plan_replacements(extra, 0.5, torch.zeros_like(extra)) == [
        (0, 1, 0),
        (0, 2, 1),
        (1, 3, 0),
    ]


def test_right_samples_are_never_replaced():
    """With trigger=always a group may be right in part: only its wrong places 1 and 3 are free."""
    assert plan_replacements(verdicts("oooo"), 1.0, verdicts("oxox")) == [(0, 0, 1), (0, 1, 3)]


@pytest.mark.parametrize(
    ("group", "fraction", "limit"), [(8, 0.5, 4), (8, 0.49, 3), (10, 0.3, 3), (5, 0.0, 0)]
)
def test_at_most_floor_of_lambda_g(group, fraction, limit):
    """0.3 * 10 is 3 although it is 2.9999999999999996 in some orders of binary sums."""
    extra = torch.ones(1, group, dtype=torch.bool)
    assert len(plan_replacements(extra, fraction, ~extra)) == limit


groups_of_verdicts = st.integers(2, 6).flatmap(
    lambda size: st.lists(
        st.tuples(
            st.lists(st.booleans(), min_size=size, max_size=size),
            st.lists(st.booleans(), min_size=size, max_size=size),
        ),
        min_size=1,
        max_size=4,
    )
)


@given(pairs=groups_of_verdicts, fraction=st.floats(0, 1))
@settings(max_examples=50, deadline=None)
def test_injection_keeps_its_promises(pairs, fraction):
    old, new = (torch.tensor([pair[i] for pair in pairs]) for i in (0, 1))
    size = old.shape[1]
    before, extra = rollout(old), rollout(new, first=1000)
    groups = list(range(len(pairs)))
    after, count = inject(before, extra, groups, fraction)
    replaced = after.grouped(after.replaced)
    limit = math.floor(fraction * size + 1e-9)
    # At most floor(lambda G) of a group, only wrong ones, only by right ones.
    assert int(replaced.sum()) == count
    assert bool((replaced.sum(dim=1) <= limit).all())
    assert not bool((replaced & old).any())
    assert bool(after.correct[after.replaced].all())
    # As many as there are: K = min(right extras, limit, wrong ones).
    expected = [min(sum(n), limit, size - sum(o)) for o, n in pairs]
    assert replaced.sum(dim=1).tolist() == expected
    # Everything else stays, and every field of a row moves together.
    for row in range(after.correct.numel()):
        moved = bool(after.replaced[row])
        source = int(after.completion_ids[row, 0])
        assert (source >= 1000) == moved
        assert source == int(after.unmask_step[row, 1])
        assert after.unmask_score[row, 1] == source / 100
        assert after.texts[row] == str(source)
        assert bool(after.hint_mask[row].all()) == moved
        assert float(after.rewards[row]) == float(after.correct[row])
        assert (after.reasons[row] is None) == bool(after.correct[row])
    # The rollout that went in is unchanged.
    assert not bool(before.replaced.any())


def test_extra_groups_find_their_own_group():
    """Extras for groups 0 and 2 of three: group 1 stays as it is."""
    before = rollout(verdicts("xx", "ox", "xx"))
    extra = rollout(verdicts("xx", "ox"), first=1000)
    after, count = inject(before, extra, [0, 2], 0.5)
    assert count == 1
    assert after.completion_ids[:, 0].tolist() == [0, 1, 2, 3, 1002, 5]


def test_the_prompts_stay():
    before = rollout(verdicts("xx"))
    wide = rollout(verdicts("oo"), first=1000)
    wide = replace(wide, prompt_ids=torch.ones(2, 3, dtype=torch.int64))
    after, _ = inject(before, wide, [0], 0.5)
    assert torch.equal(after.prompt_ids, before.prompt_ids)
