"""conf/likelihood: every file makes an estimator, and mistakes are named with their keys."""

from pathlib import Path

import pytest

from igpo_lightning.checks import validate
from igpo_lightning.errors import ConfigError
from igpo_lightning.settings import LikelihoodConfig
from igpo_lightning.settings.likelihood import ESTIMATORS
from tests.composing import composed

CONF = Path(__file__).resolve().parents[2] / "conf"
NAMES = sorted(path.stem for path in (CONF / "likelihood").glob("*.yaml"))


@pytest.mark.parametrize("name", NAMES)
def test_every_file_is_an_estimator(name):
    config = composed(f"likelihood={name}")
    validate(config)
    assert config.likelihood != LikelihoodConfig() or name == "mean_field"
    assert (CONF / "likelihood" / f"{name}.yaml").read_text().startswith("# ")


def test_every_kind_has_a_file():
    kinds = {composed(f"likelihood={name}").likelihood.kind for name in NAMES}
    assert kinds == set(ESTIMATORS)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("likelihood.kind=median", "likelihood.kind=median"),
        ("likelihood.coupling=twins", "likelihood.coupling=twins"),
        ("likelihood.nodes=0", "likelihood.nodes=0"),
        ("likelihood.upper_beta=0.5", "likelihood.upper_beta=0.5"),
        ("likelihood.prompt_mask_rate=2", "likelihood.prompt_mask_rate=2"),
        ("likelihood.credit_strength=-3", "likelihood.credit_strength=-3"),
    ],
)
def test_a_bad_value_is_named_with_its_key(override, message):
    with pytest.raises(ConfigError, match=message):
        validate(composed(override))


def test_antithetic_masks_need_pairs():
    odd = ("likelihood=elbo", "likelihood.samples=3", "likelihood.coupling=antithetic")
    with pytest.raises(ConfigError, match=r"likelihood.samples=3: must be even"):
        validate(composed(*odd))
    validate(composed("likelihood=quadrature", "likelihood.coupling=antithetic"))  # nodes pair


@pytest.mark.parametrize(
    ("preset", "kind", "ratio", "kl"),
    [
        ("espo", "elbo", "sequence", "k2"),
        ("gdpo", "quadrature", "sequence", "k2"),
        ("spg", "sandwich", None, None),
        ("coupled_grpo", "strata", "token", "k3"),
        ("daca_grpo", "strata", "token", "k3"),
        ("tracerl", "trajectory", "token", "k3"),
    ],
)
def test_the_presets_of_related_work_pair_an_estimator_with_an_objective(preset, kind, ratio, kl):
    """Weights of 1/t meet no token ratio and no exponential KL estimate."""
    on_cpu = ("model=tiny", "data=arithmetic", "trainer=cpu")
    config = composed(f"experiment={preset}", *on_cpu)
    validate(config)
    assert config.likelihood.kind == kind
    if ratio is None:  # no ratio at all
        assert config.objective.loss == "log_likelihood"
        assert config.objective.beta == 0
    else:
        assert (config.objective.ratio, config.objective.kl) == (ratio, kl)
