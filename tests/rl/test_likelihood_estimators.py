"""Every estimator trains, on the same masks for the old, the new and the reference policy."""

import math
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from tiny_training import train

from igpo_lightning.settings import LikelihoodConfig

FILES = sorted((Path(__file__).resolve().parents[2] / "conf" / "likelihood").glob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_first_update_is_on_policy_under_every_estimator(path):
    """Ratio 1 and divergence 0 to the last bit of float32: other masks would give other values."""
    whole = OmegaConf.create({"sampler": {"block_length": 4}, "likelihood": OmegaConf.load(path)})
    settings = LikelihoodConfig(**OmegaConf.to_container(whole, resolve=True)["likelihood"])
    (line,) = train(lambda row, _: row % 4 == 0, inner_updates=1, likelihood=settings).lines
    assert line["policy/ratio_mean"] == pytest.approx(1.0, abs=1e-5)
    assert line["policy/ratio_max"] == pytest.approx(1.0, abs=1e-4)
    assert line["policy/kl"] == pytest.approx(0.0, abs=1e-6)
    assert 0 < line["policy/grad_norm"] < math.inf
    assert line["rollout/entropy"] > 0
