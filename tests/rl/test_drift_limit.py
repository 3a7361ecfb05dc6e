"""Rollouts that drift too far from the policy become exact, say so, and stay so."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny_training import SAMPLER, TOKENIZER, train

from igpo_lightning.models.tiny import TinyBackbone, TinyConfig

APPROXIMATE = replace(SAMPLER, cache="dual", drift_share=0.9, drift_limit=1e-9)


def policy() -> TinyBackbone:
    """Two layers: within one, what a cache keeps of other blocks is not stale."""
    made = TinyBackbone(
        TinyConfig(
            vocab_size=len(TOKENIZER),
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            initializer_range=0.3,
        )
    )
    made.initialize(torch.Generator().manual_seed(0))
    return made


def never(row: int, text: str) -> bool:
    return False


def test_rollouts_above_the_limit_become_exact(caplog: pytest.LogCaptureFixture) -> None:
    run = train(never, steps=2, sampler=APPROXIMATE, policy=policy())
    first, second = run.lines
    assert first["rollout/drift_mean"] > 1e-9
    assert "rollout/drift_mean" not in second
    assert "step 0: the rollouts' log-probabilities are" in caplog.text
    assert "above sampler.drift_limit=1e-09; the sampler is exact" in caplog.text
    assert run.module.sampler.answerer.config == APPROXIMATE.exact
    checkpoint: dict[str, Any] = {}
    run.module.on_save_checkpoint(checkpoint)
    resumed = train(never, steps=0, sampler=APPROXIMATE, policy=policy()).module
    assert not resumed.sampler.is_exact
    resumed.on_load_checkpoint(checkpoint)
    assert resumed.sampler.is_exact


def test_rollouts_below_the_limit_stay_as_they_are() -> None:
    far = replace(APPROXIMATE, drift_limit=100.0)
    run = train(never, steps=2, sampler=far, policy=policy())
    assert all("rollout/drift_mean" in line for line in run.lines)
    assert not run.module.sampler.is_exact
