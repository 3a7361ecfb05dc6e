"""Two processes: the same update as one, although only one of them has a group to inpaint."""

from dataclasses import replace

import pytest
import torch
from tiny_training import SETTINGS, problem, train

from igpo_lightning import distributed

# A random policy states no answer, so that a hint would hold any that is looked for.
HINTED = replace(SETTINGS.inpaint, ratio=1.0, rounds=2, exclude_answer=False)


def right_for_the_second_problem(row: int, text: str) -> bool:
    """Problem a is right with a hint alone; the first sample of problem b always is."""
    first_row_of_b = 4 if distributed.world_size() == 1 else 0
    has_b = distributed.world_size() == 1 or distributed.rank() == 1
    return "xyz" in text or (has_b and row == first_row_of_b)


@pytest.mark.slow
def test_two_ranks_make_the_update_of_one():
    """Without equal numbers of passes and collective calls this would hang, not fail.

    Normalised over all tokens, so that a mean over ranks of means would differ: the hints make the
    counted tokens of the two problems unequal.
    """
    objective = replace(SETTINGS.objective, normalization="batch")
    changes = {"inpaint": HINTED, "objective": objective}
    one = train(right_for_the_second_problem, **changes)
    assert one.lines[0]["group/all_wrong_before"] == 0.5
    assert one.lines[0]["hint/replaced"] == 2.0
    before = train(right_for_the_second_problem, steps=0, **changes).parameters()
    two = train(right_for_the_second_problem, ranks=2, **changes)
    assert (one.parameters() - before).abs().max() > 5e-3
    torch.testing.assert_close(two.parameters(), one.parameters(), atol=2e-4, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2, 4])
def test_more_ranks_than_groups_make_the_update_of_one(ranks):
    """One group of four, all wrong without hints: each rank trains on two rows, or on one."""
    objective = replace(SETTINGS.objective, normalization="batch")
    changes = {"inpaint": HINTED, "objective": objective, "problems": [problem("a")]}
    one = train(shows_the_trace, **changes)
    assert one.lines[0]["hint/replaced"] == 2.0
    several = train(shows_the_trace, ranks=ranks, **changes)
    torch.testing.assert_close(several.parameters(), one.parameters(), atol=2e-4, rtol=0)


def shows_the_trace(row: int, text: str) -> bool:
    return "xyz" in text
