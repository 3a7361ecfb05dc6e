"""A dataclass refuses by itself what no run can use: key, value and fix."""

from typing import Any

import pytest

from igpo_lightning import settings
from igpo_lightning.diffusion import SamplerConfig
from igpo_lightning.errors import ConfigError


def test_the_samplers_contract_with_outside_code() -> None:
    """The order of its arguments and their defaults, which callers rely on."""
    config = SamplerConfig(16, 8, 4, 0.5, "random", 1.0, "dual", None)
    assert (config.completion_length, config.block_length, config.steps) == (16, 8, 4)
    assert (config.temperature, config.remasking, config.cfg_scale) == (0.5, "random", 1.0)
    assert (config.cache, config.confidence_threshold) == ("dual", None)
    plain = SamplerConfig(16, 8, 4)
    assert (plain.temperature, plain.remasking, plain.cfg_scale) == (0.0, "low_confidence", 0.0)
    assert (plain.cache, plain.confidence_threshold, plain.stop_after_eos) == ("none", None, False)


@pytest.mark.parametrize(
    ("group", "values", "says"),
    [
        ("SamplerConfig", {"block_length": 7}, "sampler.block_length=7: must divide"),
        ("SamplerConfig", {"top_p": 0.0}, "sampler.top_p=0.0: must be above 0"),
        ("SamplerConfig", {"remask": 1.0}, "sampler.remask=1.0: must be below 1"),
        ("SamplerConfig", {"cache_refresh": 2}, "sampler.cache_refresh=2: there is no cache"),
        (
            "SamplerConfig",
            {"canvas": "growing", "compile": "cuda_graphs"},
            "sampler.compile=cuda_graphs: would record a graph for every block",
        ),
        (
            "SamplerConfig",
            {"factor": 1.0, "confidence_threshold": 0.5},
            "sampler.factor=1.0: with sampler.confidence_threshold set: give only one",
        ),
        ("InpaintConfig", {"ratio_low": 0.9}, "inpaint.ratio_low=0.9: is above inpaint.ratio_high"),
        ("FilterConfig", {"keep_fraction": 0.0}, "filter.keep_fraction=0.0: must be above 0"),
        ("ObjectiveConfig", {"ratio": "both"}, "objective.ratio=both: use one of sequence, token"),
        ("LikelihoodConfig", {"upper_beta": 0.5}, "likelihood.upper_beta=0.5: give at least 1"),
        ("RewardConfig", {"extraction": ["luck"]}, "reward.extraction=['luck']: name at least"),
        ("OptimizerConfig", {"betas": [0.9]}, "optimizer.betas=[0.9]: give two numbers"),
        ("TrainerConfig", {"devices": 2}, "trainer.devices=2: 2 processes need"),
        ("ModelConfig", {"path": ""}, "model.path='': name a folder"),
        ("LoraConfig", {"alpha": 0.0}, "model.lora.alpha=0.0: must be above 0"),
        ("PromptConfig", {"user": "hello"}, "prompt.user=hello: must hold {question}"),
        ("DataConfig", {"levels": [9]}, "data.levels=[9]: give levels from 1 to 4"),
        ("RLStage", {"group_size": 1}, "stage.group_size=1: a group needs at least 2"),
        ("GenerateStage", {}, "stage.prompt='': give the question"),
    ],
)
def test_a_bad_value_is_refused(group: str, values: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as error:
        getattr(settings, group)(**values)
    assert says in str(error.value)
