"""The methods' estimators; mistakes are named with their keys."""

from pathlib import Path

import pytest

from igpo_lightning.checks import validate
from igpo_lightning.diffusion.masked_inputs import KINDS
from igpo_lightning.errors import ConfigError
from igpo_lightning.settings.likelihood import ESTIMATORS
from tests.composing import composed

CONF = Path(__file__).resolve().parents[2] / "conf"
METHODS = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))
# No shipped method takes these; docs/likelihood.md says when a user would.
OF_NO_METHOD = {"elbo", "strata", "sandwich"}


def test_every_kind_but_three_is_a_methods():
    kinds = {composed(f"experiment={name}").likelihood.kind for name in METHODS}
    assert kinds | OF_NO_METHOD == set(ESTIMATORS) == set(KINDS)
    assert not kinds & OF_NO_METHOD


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("likelihood.kind=median", "likelihood.kind=median"),
        ("likelihood.coupling=twins", "likelihood.coupling=twins"),
        ("likelihood.nodes=0", "likelihood.nodes=0"),
        ("likelihood.upper_beta=0.5", "likelihood.upper_beta=0.5"),
        ("likelihood.prompt_mask_rate=2", "likelihood.prompt_mask_rate=2"),
    ],
)
def test_a_bad_value_is_named_with_its_key(override, message):
    with pytest.raises(ConfigError, match=message):
        validate(composed(override))


def test_antithetic_masks_need_pairs():
    odd = ("likelihood.kind=elbo", "likelihood.samples=3", "likelihood.coupling=antithetic")
    with pytest.raises(ConfigError, match=r"likelihood.samples=3: must be even"):
        validate(composed(*odd))
    validate(composed("likelihood.kind=quadrature", "likelihood.coupling=antithetic"))  # nodes pair


def test_a_subsample_of_positions_needs_a_sum() -> None:
    """Each position left out is stood for by those drawn; a mean has no such weight."""
    fitting = ("experiment=just_grpo", "model=tiny", "data=arithmetic", "likelihood.positions=4")
    validate(composed(*fitting))
    with pytest.raises(ConfigError, match=r"likelihood.positions=4: stands for a sum"):
        validate(composed(*fitting, "objective.normalization=sequence"))


def test_merged_steps_need_a_fixed_number_of_steps() -> None:
    with pytest.raises(ConfigError, match=r"likelihood.shrink=8: merges a fixed number"):
        validate(composed("experiment=tracerl", "sampler.confidence_threshold=0.9"))
