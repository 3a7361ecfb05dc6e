"""Drift: what it is by hand, where it is none, what it costs; and that it changes no token."""

from dataclasses import replace

import pytest
import torch
from sampler_cases import BASE, CONFIGS, MASK, problem, tiny

from igpo_lightning.diffusion.noise import row_keys
from igpo_lightning.diffusion.sampler import Slots, denoise
from igpo_lightning.errors import ConfigError
from igpo_lightning.settings import SamplerConfig

OFTEN = 0.99  # half of all steps, since a measured one runs two exact rows


@pytest.mark.parametrize("name", ["hot", "threshold", "top_p", "uneven"])
def test_without_a_cache_the_sampler_is_the_policy_on_the_same_canvas(name: str) -> None:
    config = replace(CONFIGS[name], drift_share=OFTEN)
    plain, output = (
        denoise(tiny(), config=c, **problem(3, 4, 16)) for c in (CONFIGS[name], config)
    )
    assert torch.equal(output.completion_ids, plain.completion_ids)
    assert torch.equal(output.unmask_step, plain.unmask_step)
    assert output.drift.tokens > 0
    assert output.drift.largest < 1e-5
    assert output.drift.divergence == pytest.approx(0, abs=1e-5)
    assert output.drift.other == 0
    assert output.body_tokens > plain.body_tokens


@pytest.mark.parametrize("cache", ["prefix", "dual"])
def test_a_cache_drifts_unless_it_is_renewed_in_every_step(cache: str) -> None:
    config = replace(BASE, temperature=1.0, cache=cache, drift_share=OFTEN)
    stale = denoise(tiny(scale=0.6), config=config, **problem(3, 8, 16)).drift
    renewed = replace(config, cache_refresh=1)
    fresh = denoise(tiny(scale=0.6), config=renewed, **problem(3, 8, 16)).drift
    assert stale.difference / stale.tokens > 1e-3
    assert stale.divergence > 1e-3
    assert stale.largest >= stale.difference / stale.tokens
    assert fresh.tokens > stale.tokens  # a step that costs more lets more be measured
    assert fresh.largest < 1e-4  # keys stand in another order, and their sums round otherwise


def test_a_step_that_commits_all_tokens_by_hand() -> None:
    """One step fills 4 positions. The least sure one, given the other three, has another p."""
    model = tiny()
    config = SamplerConfig(4, 4, 4, temperature=1.0, confidence_threshold=0.0, drift_share=OFTEN)
    prompts, keys = torch.tensor([[5, 6]]), row_keys(list(range(40)))
    output = denoise(model, prompts.expand(40, 2), config, keys=keys)
    masked = torch.tensor([[5, 6, *[MASK] * 4]])
    with torch.no_grad():
        logits = model(masked)[0, 2:].double()
    logits[:, MASK] = -torch.inf
    q = logits.log_softmax(dim=-1)  # [4, V]
    gaps = []
    for tokens in output.completion_ids:
        own = q.gather(1, tokens[:, None]).squeeze(1)
        last = int(own.argmin())
        others = torch.cat((prompts[0], tokens))[None]
        others[0, 2 + last] = MASK
        with torch.no_grad():
            p = model(others)[0, 2 + last].double()
        p[MASK] = -torch.inf
        gaps.append(abs(float(own[last] - p.log_softmax(dim=0)[tokens[last]])))
    drift = output.drift
    assert drift.tokens == 4 * drift.steps
    assert 5 <= drift.steps <= 35
    # A sample of the rows: their mean gap lies between the smallest and the largest of all.
    assert min(gaps) < drift.joint / drift.steps < max(gaps)
    whole = sum(gaps) / len(gaps)
    assert drift.joint / drift.steps == pytest.approx(whole, rel=0.5)


def test_which_steps_are_measured_depends_on_nothing_but_the_row() -> None:
    config = replace(CONFIGS["hot"], drift_share=OFTEN)
    all_at_once = denoise(tiny(), config=config, **problem(3, 6, 16)).drift
    two = denoise(tiny(), config=config, slots=Slots(2), **problem(3, 6, 16)).drift
    assert (two.tokens, two.steps, two.other) == (
        all_at_once.tokens,
        all_at_once.steps,
        all_at_once.other,
    )
    assert two.joint == pytest.approx(all_at_once.joint, rel=1e-4)


@pytest.mark.parametrize("cache", ["none", "dual"])
def test_it_costs_the_share_that_was_asked_for(cache: str) -> None:
    """3 % of the tokens through the body, up to chance: 200 rows of 8 steps."""
    config = replace(BASE, temperature=1.0, cache=cache)
    case = {"prompt_ids": torch.arange(600).view(200, 3) % 50 + 5, "keys": row_keys([*range(200)])}
    plain = denoise(tiny(), config=config, **case).body_tokens
    more = denoise(tiny(), config=replace(config, drift_share=0.03), **case).body_tokens
    assert 0.015 < more / plain - 1 < 0.045


def test_settings_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"sampler.drift_share=0.03: is measured without guid"):
        replace(BASE, drift_share=0.03, cfg_scale=1.0)
    with pytest.raises(ConfigError, match=r"sampler.drift_limit=0.1: needs a measurement"):
        replace(BASE, drift_limit=0.1)
    with pytest.raises(ConfigError, match=r"sampler.drift_share"):
        replace(BASE, drift_share=1.5)
