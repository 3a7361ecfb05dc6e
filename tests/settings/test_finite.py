"""NaN and inf are refused in every key that holds a number, and -1 where nothing says it may be."""

import dataclasses
import math
import typing
from collections.abc import Iterator
from typing import Any

import pytest

from igpo_lightning import settings
from igpo_lightning.errors import ConfigError
from igpo_lightning.settings import STAGES, Settings

# What a stage cannot be made without.
NEEDED = {"generate": {"prompt": "3+4"}, "tokenizer": {"output": "folder"}}
# A list of numbers is one for each of these.
BESIDE = {"data.weights": {"parts": ("gsm8k",)}, "data.terse_share": {"levels": (1,)}}
# Keys whose description says that a negative number means something.
MAY_BE_NEGATIVE = {"reward.weights"}


def groups() -> Iterator[tuple[str, type]]:
    """Every dataclass of the settings with the key that leads to it."""
    for field in dataclasses.fields(Settings):
        if dataclasses.is_dataclass(field.default_factory) and field.name != "stage":
            yield field.name, typing.cast("type", field.default_factory)
    yield "model.lora", settings.LoraConfig
    yield from (("stage", stage) for stage in STAGES.values())


def number_keys() -> list[tuple[str, type, str]]:
    """(key of the group, the group, the field) of every field that holds floats."""
    return [
        (prefix, group, name)
        for prefix, group in groups()
        for name, kind in typing.get_type_hints(group).items()
        if kind is float or float in typing.get_args(kind)
    ]


def made(prefix: str, group: type, name: str, bad: float) -> Settings:
    """The whole settings with one bad value."""
    kind = typing.get_type_hints(group)[name]
    value: Any = bad
    if typing.get_origin(kind) is dict:
        value = {"correctness": bad}
    elif typing.get_origin(kind) is tuple:
        value = (bad, 0.5) if name == "betas" else (bad,)
    needed: dict[str, Any] = NEEDED.get(getattr(group, "name", ""), {})
    values = group(**needed, **BESIDE.get(f"{prefix}.{name}", {}), **{name: value})
    if prefix == "model.lora":
        return Settings(model=settings.ModelConfig(lora=values))
    return Settings(**{prefix: values})


def test_every_group_is_looked_at() -> None:
    keys = {f"{prefix}.{name}" for prefix, _, name in number_keys()}
    assert {"optimizer.lr", "model.lora.alpha", "stage.copy_share", "stage.temperatures"} <= keys
    assert {"reward.weights", "data.weights", "optimizer.betas", "sampler.top_p"} <= keys
    assert keys >= MAY_BE_NEGATIVE


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, -1.0])
@pytest.mark.parametrize(("prefix", "group", "name"), number_keys())
def test_a_number_that_no_run_can_use_is_refused(
    prefix: str, group: type, name: str, bad: float
) -> None:
    key = f"{prefix}.{name}"
    if bad == -1 and key in MAY_BE_NEGATIVE:
        made(prefix, group, name, bad)
        return
    with pytest.raises(ConfigError) as error:
        made(prefix, group, name, bad)
    assert key in str(error.value)
    assert str(bad) in str(error.value)


@pytest.mark.parametrize(
    ("group", "values", "says"),
    [
        ("RewardConfig", {"timeout": 1e9}, "reward.timeout=1000000000.0: give a number from 0"),
        ("TrainerConfig", {"threads": 100_000}, "trainer.threads=100000: give a number from 1"),
        ("TrainerConfig", {"timeout": 1e15}, "trainer.timeout=1000000000000000.0: give a number"),
        ("RewriterConfig", {"timeout": 1e12}, "rewriter.timeout=1000000000000.0: give a number"),
        ("DataConfig", {"validation_share": 1.5}, "data.validation_share=1.5: give a number"),
    ],
)
def test_a_number_that_no_machine_can_use_is_refused(
    group: str, values: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigError) as error:
        getattr(settings, group)(**values)
    assert says in str(error.value)
