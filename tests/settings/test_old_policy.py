"""When the policy that sampled is scored in passes of its own."""

import pytest

from tests.composing import composed

ONE = ("experiment=igpo_paper", "stage.inner_updates=1", "filter.kind=none", "model.lora.dropout=0")


@pytest.mark.parametrize(
    "change",
    [
        "stage.inner_updates=2",  # the second update starts from another policy
        "filter.kind=entropy",  # needs entropies before the update
        "model.lora.dropout=0.05",  # the update sees a thinned policy
    ],
)
def test_the_policy_that_sampled_is_scored_by_itself_where_it_is_not_what_the_update_sees(
    change: str,
) -> None:
    assert not composed(*ONE).scores_old_policy
    assert composed(*ONE, change).scores_old_policy


def test_presets_of_one_update_save_the_pass() -> None:
    for preset in ("just_grpo", "cj_grpo", "bgpo", "ebpo", "tracerl"):
        assert not composed(f"experiment={preset}").scores_old_policy, preset
    for preset in ("igpo_paper", "igpo_just_grpo", "wd1", "coupled_grpo"):
        assert composed(f"experiment={preset}").scores_old_policy, preset
