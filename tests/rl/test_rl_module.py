"""Algorithm 1 as a whole, on a policy of a few thousand parameters."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning.pytorch.loggers import TensorBoardLogger
from tiny_training import SETTINGS, STAGE, TRACE, backbone, problem, train

from igpo_lightning.models.lora import add_lora
from igpo_lightning.settings import InpaintConfig, LoraConfig

# A random policy states no answer, so that a hint would hold any that is looked for.
HINTED = replace(SETTINGS.inpaint, ratio=1.0, exclude_answer=False)


def first_of_each_group(row: int, text: str) -> bool:
    """No group is all wrong, and none is all right."""
    return row % STAGE.group_size == 0


def shows_the_trace(row: int, text: str) -> bool:
    """Right with a hint (three letters that no prompt has), wrong without."""
    return "xyz" in text


def never(row: int, text: str) -> bool:
    return False


# ---- inpaint=none is exactly GRPO -------------------------------------------------------------


@given(
    rounds=st.integers(1, 2),
    kind=st.sampled_from(["constant", "cosine", "adaptive"]),
    seed=st.integers(0, 3),
)
@settings(max_examples=6, deadline=None)
def test_without_all_wrong_groups_igpo_is_grpo(rounds, kind, seed):
    plain = InpaintConfig(trigger="never")
    ready = InpaintConfig(rounds=rounds, schedule=kind)
    grpo = train(first_of_each_group, steps=2, inpaint=plain, seed=seed)
    igpo = train(first_of_each_group, steps=2, inpaint=ready, seed=seed)
    assert torch.equal(grpo.parameters(), igpo.parameters())


def test_with_all_wrong_groups_igpo_is_not_grpo():
    grpo = train(shows_the_trace, inpaint=InpaintConfig(trigger="never"))
    igpo = train(shows_the_trace, inpaint=HINTED)
    assert not torch.equal(grpo.parameters(), igpo.parameters())


# ---- injection --------------------------------------------------------------------------------


def test_all_wrong_groups_are_rescued_by_at_most_lambda_g_hinted_samples():
    """Two groups of four, lambda = 1/2: two of each are replaced, advantages are 1/2 and -1/2."""
    run = train(shows_the_trace, inpaint=HINTED)
    (line,) = run.lines
    assert line["group/all_wrong_before"] == 1.0
    assert line["group/all_wrong_after"] == 0.0
    assert line["group/rescued_share"] == 1.0
    assert line["hint/replaced"] == 4.0
    assert line["reward/accuracy_before"] == 0.0
    assert line["reward/accuracy"] == 0.5
    assert line["policy/advantage_abs"] == 0.5
    assert line["hint/ratio_mean"] == 1.0
    for group in (0, 1):
        rows = [s for s in run.samples if s["group"] == group]
        assert [s["replaced"] for s in rows] == [True, True, False, False]
        assert [s["correct"] for s in rows] == [True, True, False, False]
        assert all(any(s["hint_mask"]) == s["replaced"] for s in rows)


def test_hints_stand_in_the_completion():
    """The whole trace, at its start; test_parts.py shows that the answer is left out."""
    run = train(shows_the_trace, inpaint=HINTED)
    assert any(sample["replaced"] for sample in run.samples)
    for sample in run.samples:
        hinted = [t for t, h in zip(sample["tokens"], sample["hint_mask"], strict=True) if h]
        if sample["replaced"]:
            shown = "".join(hinted)
            assert TRACE.startswith(shown.strip())
            assert "xyz xyz xyz" in shown
            steps = zip(sample["unmask_step"], sample["hint_mask"], strict=True)
            assert all((step == -1) == hint for step, hint in steps)


def test_groups_without_a_trace_fall_back_to_grpo_and_are_counted():
    problems = [problem("a", None), problem("b")]
    run = train(shows_the_trace, problems=problems, inpaint=HINTED)
    (line,) = run.lines
    assert line["hint/groups_triggered"] == 2.0
    assert line["hint/groups_without_trace"] == 1.0
    assert line["group/all_wrong_after"] == 0.5
    assert not any(s["replaced"] for s in run.samples if s["group"] == 0)


def test_long_traces_are_counted_and_cut():
    long_trace = problem("a", "xyz " * 20 + "= 7")
    (line,) = train(shows_the_trace, problems=[long_trace], inpaint=HINTED).lines
    assert line["hint/traces_too_long"] == 1.0
    assert line["hint/replaced"] == 2.0


def test_the_control_samples_again_without_hints():
    """Right only in the second call, the extra samples of both groups: the first five of eight."""
    calls = []

    def second_time(row, text):
        calls.append(row)
        return len(calls) > 8 and row in (0, 4)

    control = InpaintConfig(extra_samples="plain")
    run = train(second_time, problems=[problem("a"), problem("b", None)], inpaint=control)
    (line,) = run.lines
    assert line["hint/replaced"] == 2.0
    assert line["hint/tokens"] == 0.0
    assert "hint/ratio_mean" not in line
    assert [s["replaced"] for s in run.samples] == [True, False, False, False] * 2
    assert not any(any(s["hint_mask"]) for s in run.samples)


def test_rounds_go_on_until_a_group_has_a_right_sample():
    """Group a is right in its first round, group b in its third; growth 2 from 0.25 gives 1."""
    calls = []

    def plan(row, text):
        calls.append(row)
        # 8 rows first; round 1 has 8, of a and b; rounds 2 and 3 have 4, of b alone.
        return len(calls) in (9, 21)

    growing = replace(HINTED, rounds=5, ratio=0.25, round_growth=2.0)
    (line,) = train(plan, inpaint=growing).lines
    assert len(calls) == 8 + 8 + 4 + 4
    assert line["hint/rounds"] == 3.0
    assert line["hint/replaced"] == 2.0
    # Eta: 8 rows at 0.25, 4 at 0.5, 4 at 1.
    assert line["hint/ratio_mean"] == pytest.approx((8 * 0.25 + 4 * 0.5 + 4 * 1.0) / 16)
    assert line["hint/correct_share"] == pytest.approx(2 / 16)


@pytest.mark.parametrize(
    "change",
    [
        {"scope": "batch"},
        {"trigger": "always"},
        {"schedule": "adaptive"},
        {"placement": "stretched", "exclude_answer": False, "tail": 1},
        {"drop_short_chunk": True},
        {"noise": 0.1},
    ],
)
def test_every_way_to_make_hints_rescues_these_groups(change):
    """Each gives most of the trace here, so that the letters that make a sample right are in it."""
    (line,) = train(shows_the_trace, inpaint=replace(HINTED, **change)).lines
    assert line["hint/groups_triggered"] == 2.0
    assert line["group/all_wrong_before"] == 1.0
    assert line["group/all_wrong_after"] < 1.0
    assert 0 < line["hint/replaced"] <= 4.0


# ---- work ---------------------------------------------------------------------------------------


def test_compute_counts_a_backward_pass_as_two_forward_passes():
    """Old and reference scoring are one pass each; every inner update is a pass forth and back."""
    line = train(shows_the_trace, inpaint=HINTED).lines[0]
    updates = STAGE.inner_updates
    assert SETTINGS.objective.needs_reference
    ratio = (1 + 1 + 3 * updates) / (1 + 1 + updates)
    assert line["compute/update"] == pytest.approx(ratio * line["tokens/update"])
    assert line["compute/rollout"] > line["tokens/rollout"], "a token is computed at every step"


# ---- honest sums ------------------------------------------------------------------------------


@pytest.mark.parametrize("normalization", ["sequence", "batch", "constant"])
def test_micro_batches_change_neither_the_update_nor_the_metrics(normalization):
    """Rows of 3 (8 is no multiple) against all at once; sampling is equal by its row keys."""
    objective = replace(SETTINGS.objective, normalization=normalization, normalization_length=16)
    whole = train(shows_the_trace, inpaint=HINTED, objective=objective)
    parts = train(
        shows_the_trace,
        inpaint=HINTED,
        objective=objective,
        stage=replace(STAGE, train_batch_size=3, rollout_batch_size=3),
    )
    # A step of Adam moves a parameter by 1e-2, whatever the rounding of its gradient.
    torch.testing.assert_close(whole.parameters(), parts.parameters(), atol=2e-4, rtol=0)
    for name, value in whole.lines[0].items():
        of_work = name.split("/")[0] in ("time", "passes", "tokens", "compute")
        if not of_work and name != "rollout/slot_use":
            assert parts.lines[0][name] == pytest.approx(value, rel=1e-3, abs=1e-4), name


def test_groups_with_equal_rewards_add_nothing_when_dropped():
    """All wrong and no hints: nothing counts, so nothing is a mean of anything."""
    quiet = InpaintConfig(trigger="never")
    dropping = replace(SETTINGS.objective, drop_uniform_groups=True)
    (line,) = train(never, inpaint=quiet, objective=dropping).lines
    assert line["policy/grad_norm"] == 0.0
    assert line["policy/counted_tokens"] == 0.0
    assert line["group/dropped"] == 1.0
    assert "policy/ratio_mean" not in line
    (kept,) = train(never, inpaint=quiet).lines
    assert kept["policy/counted_tokens"] > 0
    assert kept["group/dropped"] == 0.0


def test_tokens_after_the_end_count_only_in_the_released_variant():
    released = replace(SETTINGS.objective, count_after_eos=True, ratio_length="full")
    quiet = InpaintConfig(trigger="never")
    (line,) = train(first_of_each_group, inpaint=quiet, objective=released).lines
    assert line["policy/counted_tokens"] == 8 * SETTINGS.sampler.completion_length


def test_the_first_update_is_on_policy_and_the_second_is_not():
    (one,) = train(first_of_each_group, stage=replace(STAGE, inner_updates=1)).lines
    assert one["policy/ratio_mean"] == pytest.approx(1.0, abs=1e-5)
    assert one["policy/kl"] == pytest.approx(0.0, abs=1e-6)
    (two,) = train(first_of_each_group, stage=replace(STAGE, inner_updates=2)).lines
    assert two["policy/ratio_max"] > 1.0001
    assert two["policy/kl"] > 0


def test_no_reference_is_kept_where_none_is_needed():
    for change in ({"beta": 0.0}, {"kl": "none"}):
        run = train(first_of_each_group, objective=replace(SETTINGS.objective, **change))
        assert run.module.reference is None
        assert "policy/kl" not in run.lines[0]


def test_with_adapters_the_reference_is_the_policy_without_them():
    """No copy is kept; the KL penalty starts at 0 and grows; the frozen weights stay."""
    policy = backbone()
    add_lora(policy, LoraConfig(rank=2, alpha=4.0, dropout=0.1), seed=0)
    frozen = {n: p.clone() for n, p in policy.named_parameters() if not p.requires_grad}
    run = train(first_of_each_group, steps=2, policy=policy)
    assert run.module.reference is None
    assert run.lines[1]["policy/kl"] > 0
    assert all(torch.equal(p, frozen[n]) for n, p in policy.named_parameters() if n in frozen)
    one = backbone()
    add_lora(one, LoraConfig(rank=2, alpha=4.0), seed=0)
    (line,) = train(first_of_each_group, stage=replace(STAGE, inner_updates=1), policy=one).lines
    assert line["policy/kl"] == pytest.approx(0.0, abs=1e-6)


def test_rewards_add_up_with_their_weights_and_only_the_verdict_is_wrong():
    """Length costs 0.5 a full completion: rewards differ, yet every group is all wrong."""
    weights = {"correctness": 2.0, "length": -0.5}
    (line,) = train(never, inpaint=HINTED, reward_weights=weights).lines
    assert line["group/all_wrong_before"] == 1.0
    assert line["reward/correctness"] == 0.0
    assert 0 < line["reward/length"] <= 1
    assert line["reward/mean"] == pytest.approx(-0.5 * line["reward/length"], rel=1e-5)


# ---- what is shown ------------------------------------------------------------------------------


def test_samples_hold_what_a_viewer_needs(tmp_path):
    logger = TensorBoardLogger(tmp_path)
    run = train(shows_the_trace, inpaint=HINTED, loggers=[logger])
    sample = run.samples[0]
    assert sample["question"] == "a: 3+4"
    assert sample["prompt"].endswith("a: 3+4<|assistant|>")
    assert sample["trace"] == TRACE
    assert sample["answer"] == "7"
    assert sample["reward_parts"] == {"correctness": 1.0}
    assert sample["reason"] is None
    assert run.samples[-1]["reason"] == "wrong"
    length = SETTINGS.sampler.completion_length
    for name in ("tokens", "hint_mask", "unmask_step"):
        assert len(sample[name]) == length
    events = list(tmp_path.rglob("events.*"))
    assert len(events) == 1
    content = events[0].read_bytes()
    assert b"| id | sample | right |" in content
    assert b"**xyz" in content


def test_every_metric_is_documented_and_every_documented_one_is_logged():
    """The names in docs/metrics.md are those that a run with hints, KL and all rewards logs.

    Its sampler is approximate, tokens are weighed for it, and it could draw prompts twice.
    """
    text = (Path(__file__).resolve().parents[2] / "docs" / "metrics.md").read_text()
    documented = {
        name
        for line in text.splitlines()
        if line.startswith("| `") and "/" in line.split("|")[1]
        for name in re.findall(r"`([a-z]+/[a-z_]+)`", line.split("|")[1])
    }
    weights = {"correctness": 1.0, "format_tags": 0.1, "length": -0.1}
    run = train(
        shows_the_trace,
        inpaint=HINTED,
        reward_weights=weights,
        sampler=replace(SETTINGS.sampler, cache="dual", drift_share=0.9),
        objective=replace(SETTINGS.objective, rollout_is="token"),
        stage=replace(STAGE, prompts_per_step=2, sampling_rounds=2),
    )
    # Logged by Lightning's validation and with a stream of prompts, which this run has none of.
    without = ("eval/", "data/")
    assert set(run.lines[0]) == {name for name in documented if not name.startswith(without)}
