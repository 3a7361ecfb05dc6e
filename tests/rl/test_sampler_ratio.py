"""Truncated importance weights: by hand, against a naive version, and from the sampler itself."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny_training import SAMPLER, SETTINGS, STAGE, drifting_backbone, problem, train
from torch import Tensor

from igpo_lightning.checks import validate
from igpo_lightning.diffusion.sampler import denoise
from igpo_lightning.errors import ConfigError
from igpo_lightning.rl.objectives import policy_loss, sampler_ratio
from igpo_lightning.settings import LikelihoodConfig, ObjectiveConfig

# One slice for each of the sampler's four steps: every token at the canvas that it was drawn on.
TRAJECTORY = LikelihoodConfig(kind="trajectory", slices=4)


# ---- by hand ------------------------------------------------------------------------------------


def test_ratios_by_hand() -> None:
    """p / q of two rows: 0.5/0.25, 0.1/0.2, one not drawn; and 0.9/0.3, 0.2/0.1, 0.4/0.2.

    A token's own: 2, 0.5, 1; 3, 2, 2. A row's product: 2 * 0.5 = 1 and
    3 * 2 * 2 = 12, at every token of the row, the other too.
    """
    policy = torch.tensor([[0.5, 0.1, 0.7], [0.9, 0.2, 0.4]]).log()
    sampler = torch.tensor([[0.25, 0.2, 1.0], [0.3, 0.1, 0.2]]).log()
    drawn = torch.tensor([[True, True, False], [True, True, True]])
    own = sampler_ratio(policy, sampler, drawn, "token")
    torch.testing.assert_close(own, torch.tensor([[2.0, 0.5, 1.0], [3.0, 2.0, 2.0]]))
    product = sampler_ratio(policy, sampler, drawn, "sequence")
    torch.testing.assert_close(product, torch.tensor([[1.0] * 3, [12.0] * 3]))


def test_the_loss_weighs_the_gain_by_the_truncated_ratio_and_not_the_penalty() -> None:
    """One row, two tokens, ratio 1 and advantage 1: the gain is the mean of the weights.

    Ratios 3 and 0.5, at most 2: (2 + 0.5) / 2 = 1.25. The k2 penalty to a reference that is log 2
    away at both tokens is log(2)^2 / 2, whatever the weights.
    """
    logp = torch.tensor([[-1.0, -2.0]], requires_grad=True)
    everything = torch.ones(1, 2, dtype=torch.bool)
    arguments: dict[str, Any] = {
        "advantages": torch.ones(1),
        "loss_mask": everything,
        "sampler_ratio": torch.tensor([[3.0, 0.5]]),
        "rollout_is_threshold": 2.0,
    }
    loss, _ = policy_loss(logp, logp.detach(), **arguments)
    assert loss.item() == pytest.approx(-1.25)
    loss.backward()
    # d exp(logp - old) / d logp = 1 at both: the gradient is -weight / 2.
    assert logp.grad is not None
    torch.testing.assert_close(logp.grad, torch.tensor([[-1.0, -0.25]]))
    away = logp.detach() - math.log(2)
    loss, _ = policy_loss(logp, logp.detach(), **arguments, ref_logp=away, beta=1.0, kl="k2")
    assert loss.item() == pytest.approx(-1.25 + math.log(2) ** 2 / 2)


def naive_loss(
    logp: Tensor,
    old: Tensor,
    sampler: Tensor,
    drawn: Tensor,
    advantages: Tensor,
    level: str,
    cap: float,
) -> float:
    """GRPO's loss, token by token, each term times min(p / q, C); every token counts."""
    rows = []
    for b in range(len(logp)):
        ratios = [math.exp(old[b, i] - sampler[b, i]) for i in range(logp.shape[1]) if drawn[b, i]]
        terms = []
        for i in range(logp.shape[1]):
            own = math.exp(old[b, i] - sampler[b, i]) if drawn[b, i] else 1.0
            weight = min(math.prod(ratios) if level == "sequence" else own, cap)
            ratio, advantage = math.exp(logp[b, i] - old[b, i]), float(advantages[b])
            clipped = min(max(ratio, 0.8), 1.2)
            terms.append(weight * min(ratio * advantage, clipped * advantage))
        rows.append(sum(terms) / len(terms))
    return -sum(rows) / len(rows)


@pytest.mark.parametrize("level", ["token", "sequence"])
@pytest.mark.parametrize("cap", [0.7, 2.0, 100.0])
def test_the_loss_is_that_of_a_loop(level: str, cap: float) -> None:
    draw = torch.Generator().manual_seed(0)
    logp, old, sampler = (-3 * torch.rand(5, 7, generator=draw, dtype=torch.double) for _ in "123")
    drawn = torch.rand(5, 7, generator=draw) < 0.7
    advantages = torch.randn(5, generator=draw, dtype=torch.double)
    loss, _ = policy_loss(
        logp,
        old,
        advantages,
        torch.ones_like(drawn),
        sampler_ratio=sampler_ratio(old, sampler, drawn, level),
        rollout_is_threshold=cap,
    )
    expected = naive_loss(logp, old, sampler, drawn, advantages, level, cap)
    assert loss.item() == pytest.approx(expected, rel=1e-6)


# ---- from the sampler ---------------------------------------------------------------------------


def test_the_sampler_tells_how_probable_each_token_was() -> None:
    """One step over 4 masks: the model's probabilities of the drawn tokens on that canvas."""
    model = drifting_backbone()
    config = replace(SAMPLER, completion_length=4, block_length=4, steps=1)
    prompt, hints = torch.tensor([[5, 6]]), torch.tensor([[-1, 9, -1, -1]])
    output = denoise(model, prompt, config, hint_ids=hints)
    canvas = torch.tensor([[5, 6, *[model.mask_token_id] * 4]])
    canvas[0, 3] = 9
    with torch.no_grad():
        logits = model(canvas)[0, 2:]
    logits[:, model.mask_token_id] = -torch.inf
    expected = logits.softmax(dim=-1).gather(-1, output.completion_ids[0, :, None])[:, 0]
    expected[1] = 1.0  # nobody drew the hint
    torch.testing.assert_close(output.unmask_score[0], expected)


def trained(**changes: Any) -> dict[str, float]:
    """What the only step of a run logs; one update, so that old scores are not there anyway."""
    objective = ObjectiveConfig(beta=0.0, rollout_is="token", **changes.pop("objective", {}))
    run = train(
        lambda row, _: row % 2 == 0,
        policy=drifting_backbone(),
        stage=replace(STAGE, inner_updates=1),
        likelihood=TRAJECTORY,
        objective=objective,
        **changes,
    )
    return run.lines[0]


def test_the_exact_sampler_is_the_policy_at_every_token() -> None:
    """But for the mask token, which only the policy gives a probability: one of 300 at random."""
    line = trained()
    assert line["policy/sampler_ratio_max"] == pytest.approx(1, abs=1e-2)
    assert line["policy/sampler_weight_mean"] == pytest.approx(1, abs=1e-2)


def test_a_cached_sampler_is_weighed_and_truncated() -> None:
    cached = replace(SAMPLER, cache="dual")
    line = trained(sampler=cached, objective={"rollout_is_threshold": 1.0})
    assert line["policy/sampler_ratio_max"] > 1.01
    assert 0 < line["policy/sampler_ratio_truncated"] < 1
    assert line["policy/sampler_weight_mean"] < 1
    whole = trained(sampler=cached, objective={"rollout_is_threshold": 1e3})
    assert whole["policy/sampler_ratio_truncated"] == 0
    assert whole["policy/sampler_weight_mean"] > line["policy/sampler_weight_mean"]


@pytest.mark.parametrize("separate", [False, True])
def test_it_is_the_same_whether_a_step_is_a_row_of_its_own_or_not(separate: bool) -> None:
    run = train(
        lambda row, _: row % 2 == 0,
        problems=[problem("a")],
        policy=drifting_backbone(),
        sampler=replace(SAMPLER, cache="dual"),
        likelihood=replace(TRAJECTORY, separate=separate),
        objective=ObjectiveConfig(beta=0.0, rollout_is="sequence"),
    )
    together = train(
        lambda row, _: row % 2 == 0,
        problems=[problem("a")],
        policy=drifting_backbone(),
        sampler=replace(SAMPLER, cache="dual"),
        likelihood=TRAJECTORY,
        objective=ObjectiveConfig(beta=0.0, rollout_is="sequence"),
    )
    for name in ("weight_mean", "ratio_max", "ratio_truncated"):
        key = f"policy/sampler_{name}"
        assert run.lines[0][key] == pytest.approx(together.lines[0][key], rel=1e-4)


# ---- settings -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"likelihood": LikelihoodConfig()},
            "objective.rollout_is=token: compares policy and sampler on the sampler's canvases, "
            "which likelihood.kind=mean_field does not score; set likelihood.kind=trajectory",
        ),
        (
            {"sampler": replace(SAMPLER, remasking="entropy")},
            "objective.rollout_is=token: needs the sampler's probabilities as scores; set "
            "sampler.remasking=low_confidence",
        ),
        ({"sampler": replace(SAMPLER, eos="last")}, "sampler.eos=free or never"),
    ],
)
def test_weights_that_cannot_be_computed_are_refused(changes: Any, message: str) -> None:
    weighted = replace(
        SETTINGS, objective=ObjectiveConfig(rollout_is="token"), likelihood=TRAJECTORY
    )
    validate(weighted)
    with pytest.raises(ConfigError, match=message):
        validate(replace(weighted, **changes))


def test_unknown_levels_and_caps_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"objective.rollout_is=row: use one of token, sequence"):
        ObjectiveConfig(rollout_is="row")
    with pytest.raises(ConfigError, match=r"objective.rollout_is_threshold=0.0: must be above 0"):
        ObjectiveConfig(rollout_is_threshold=0.0)


def test_the_policy_that_sampled_is_scored_where_its_weights_are_needed() -> None:
    one = replace(SETTINGS, stage=replace(STAGE, inner_updates=1))
    plain = replace(one, filter=replace(one.filter, kind="none"))
    assert not plain.scores_old_policy
    assert replace(plain, objective=ObjectiveConfig(rollout_is="token")).scores_old_policy
