"""What stage=eval_suite measures: each benchmark at each length, as a configuration of its own.

Nothing here imports torch: the checks look at every measurement before anything is loaded.
"""

from dataclasses import dataclass, replace
from typing import Any

from igpo_lightning.config import dotted, named_data, plain
from igpo_lightning.errors import ConfigError
from igpo_lightning.settings import EvalStage, EvalSuiteStage, Settings

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
    config: Settings

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.benchmark}_{self.length}"

    def decisive(self) -> dict[str, Any]:
        """Dotted key: value of all that the result follows from."""
        groups = {key: value for key, value in plain(self.config).items() if key in _DECISIVE}
        return {key: value for key, value in dotted(groups).items() if key not in _FREE}


def measurements(config: Settings) -> list[Measurement]:
    """Every benchmark at the first length, then at the next one.

    The benchmarks are the parts of the data, or the data itself where it has none. The sampler
    makes as many tokens per step at every length as the configured one does.

    Raises:
        ConfigError: A length does not fit the sampler.
    """
    assert isinstance(config.stage, EvalSuiteStage)
    lengths = config.stage.lengths or (config.sampler.completion_length,)
    names = config.data.parts or (config.data.name,)
    return [
        Measurement(name, length, _measured(config, config.stage, name, length))
        for length in lengths
        for name in names
    ]


def _measured(config: Settings, suite: EvalSuiteStage, name: str, length: int) -> Settings:
    data, sampler, evaluation = config.data, config.sampler, config.eval
    if data.parts:
        limit, data = data.limit, named_data(name, "data.parts")
        data = data if limit is None else replace(data, limit=limit)
    steps = length * sampler.steps // sampler.completion_length
    try:
        sampler = replace(sampler, steps=steps, completion_length=length)
    except ConfigError as error:
        raise ConfigError(
            f"stage.lengths={list(suite.lengths)}: {length} tokens do not fit the sampler: {error}"
        ) from error
    evaluation = replace(
        evaluation,
        temperature=suite.temperatures.get(name, evaluation.temperature),
        samples=suite.samples.get(name, evaluation.samples),
    )
    return replace(config, stage=EvalStage(), data=data, sampler=sampler, eval=evaluation)
