"""Every name that a field may hold does something, and every table has the names of its field."""

from pathlib import Path

import pytest
import torch

from igpo_lightning import stages
from igpo_lightning.diffusion.masked_inputs import draw_masked_inputs
from igpo_lightning.diffusion.noise import row_keys
from igpo_lightning.diffusion.unmasking import STRATEGIES
from igpo_lightning.inpainting import choose_hints
from igpo_lightning.inpainting.schedule import schedule_scale
from igpo_lightning.rewards import extraction
from igpo_lightning.rl.advantages import group_advantages, summed_advantages
from igpo_lightning.rl.filters import filter_tokens
from igpo_lightning.rl.injection import needs_help
from igpo_lightning.rl.kl import kl_estimate
from igpo_lightning.rl.normalization import normalized_weights
from igpo_lightning.rl.objectives import importance_ratio
from igpo_lightning.settings import STAGES, FilterConfig, InpaintConfig, LikelihoodConfig, reward
from igpo_lightning.settings.filter import FILTERS
from igpo_lightning.settings.inpaint import PLACEMENTS, RATIO_SCHEDULES, SCOPES, TRIGGERS
from igpo_lightning.settings.likelihood import COUPLINGS, ESTIMATORS
from igpo_lightning.settings.objective import (
    ADVANTAGES,
    KL_ESTIMATES,
    NORMALIZATIONS,
    RATIO_LENGTHS,
    RATIOS,
)
from igpo_lightning.settings.sampler import REMASKING

LOGP = torch.tensor([[-1.0, -2.0]])
MASK = torch.ones(1, 2, dtype=torch.bool)


def test_tables_have_the_names_of_their_fields() -> None:
    assert set(STRATEGIES) == set(REMASKING)
    assert set(extraction.STRATEGIES) == set(reward.STRATEGIES)
    folder = Path(stages.__file__).parent
    assert not [name for name in STAGES if not (folder / f"{name}.py").is_file()]


@pytest.mark.parametrize("name", ADVANTAGES)
def test_advantages(name: str) -> None:
    rewards = torch.tensor([[0.0, 1.0]])
    if name == "normalize_then_sum":
        assert summed_advantages(rewards[..., None])[0, 1] > 0
    else:
        assert group_advantages(rewards, name)[0, 1] > 0


@pytest.mark.parametrize("name", FILTERS)
def test_filters(name: str) -> None:
    assert filter_tokens(FilterConfig(name), LOGP.exp(), MASK, MASK).any()


@pytest.mark.parametrize("name", RATIOS)
@pytest.mark.parametrize("length", RATIO_LENGTHS)
def test_ratios(name: str, length: str) -> None:
    assert torch.equal(importance_ratio(LOGP, LOGP, MASK, name, length), torch.ones(1, 2))


@pytest.mark.parametrize("name", [name for name in KL_ESTIMATES if name != "none"])
def test_penalties(name: str) -> None:
    assert kl_estimate(LOGP, LOGP, name).abs().sum() == 0


@pytest.mark.parametrize("name", NORMALIZATIONS)
def test_normalizations(name: str) -> None:
    """Where every token counts, all of them weigh 1 / (B C) = 1/2; in a sum over tokens, 1 / B."""
    weight = 1.0 if name == "sum" else 0.5
    assert torch.equal(normalized_weights(MASK, name), torch.full((1, 2), weight))


@pytest.mark.parametrize("name", RATIO_SCHEDULES)
def test_ratio_schedules(name: str) -> None:
    assert schedule_scale(InpaintConfig(schedule=name), 0, 10, 1.0) == 1.0


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_hints(placement: str) -> None:
    options = InpaintConfig(placement=placement, tail=0)
    hints = choose_hints(range(8), 8, 1.0, 2, 2, torch.Generator(), options=options)
    assert (hints >= 0).any()


@pytest.mark.parametrize("trigger", TRIGGERS)
@pytest.mark.parametrize("scope", SCOPES)
def test_triggers(trigger: str, scope: str) -> None:
    wrong = torch.zeros(2, 2, dtype=torch.bool)
    chosen = needs_help(InpaintConfig(trigger=trigger, scope=scope), wrong)
    assert chosen.tolist() == [trigger != "never"] * 2


@pytest.mark.parametrize("kind", ESTIMATORS)
@pytest.mark.parametrize("coupling", COUPLINGS)
def test_estimators(kind: str, coupling: str) -> None:
    inputs = draw_masked_inputs(
        LikelihoodConfig(kind, coupling=coupling),
        torch.arange(4)[None],
        keys=row_keys([0]),
        live_mask=torch.ones(1, 4, dtype=torch.bool),
        unmask_step=torch.arange(4)[None],
        advantages=torch.ones(1),
    )
    assert inputs.masks.shape == inputs.weights.shape
    assert inputs.masks.any()
