"""What stage=eval_suite measures: each benchmark at each length, as a configuration of its own.

Nothing here imports torch: the checks look at every measurement before anything is loaded.
"""

import copy
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

from igpo_lightning.config import EvalStage, named_data
from igpo_lightning.runs.dotted_keys import dotted

# What a result follows from; it does not follow from where and on what it is computed.
_DECISIVE = ["model", "prompt", "data", "sampler", "reward", "eval", "seed"]
_FREE = ("eval.batch_size", "sampler.token_budget", "sampler.compile", "reward.workers")


@dataclass(frozen=True)
class Measurement:
    """One benchmark at one length.

    Attributes:
        benchmark: data=NAME.
        length: Tokens of a completion.
        config: The configuration of stage=eval that measures it.
    """

    benchmark: str
    length: int
    config: DictConfig

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.benchmark}_{self.length}"

    def decisive(self) -> dict[str, Any]:
        """Dotted key: value of all that the result follows from."""
        groups = OmegaConf.to_container(OmegaConf.masked_copy(self.config, _DECISIVE), resolve=True)
        assert isinstance(groups, dict)
        return {key: value for key, value in dotted(groups).items() if key not in _FREE}


def measurements(config: DictConfig) -> list[Measurement]:
    """Every benchmark at the first length, then at the next one.

    The benchmarks are the parts of the data, or the data itself where it has none. The sampler
    makes as many tokens a step at every length as the configured one does.
    """
    lengths = list(config.stage.lengths) or [config.sampler.completion_length]
    names = list(config.data.parts) or [config.data.name]
    return [
        Measurement(name, length, _measured(config, name, length))
        for length in lengths
        for name in names
    ]


def _measured(config: DictConfig, name: str, length: int) -> DictConfig:
    part = copy.deepcopy(config)
    part.stage = EvalStage()
    if config.data.parts:
        part.data = named_data(name, "data.parts")
        if config.data.limit is not None:
            part.data.limit = config.data.limit
    part.sampler.steps = length * config.sampler.steps // config.sampler.completion_length
    part.sampler.completion_length = length
    part.eval.temperature = config.stage.temperatures.get(name, config.eval.temperature)
    part.eval.samples = config.stage.samples.get(name, config.eval.samples)
    return part
