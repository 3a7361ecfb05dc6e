"""Every config file composes, and a mistake is told in one line before anything heavy is loaded."""

import dataclasses
import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra.errors import HydraException
from omegaconf import OmegaConf

from igpo_lightning.checks import validate
from igpo_lightning.cli import explain
from igpo_lightning.config import CONF, schema, to_settings
from igpo_lightning.errors import ConfigError
from igpo_lightning.settings import STAGES, Settings
from tests.composing import composed, raw

GROUPS = sorted(p.name for p in CONF.iterdir() if p.is_dir())
# Groups whose files stand alone; the others are composed by name below.
CHOICES = [
    f"{group}={file.stem}"
    for group in GROUPS
    if group not in ("experiment", "sweep", "hydra", "sizes", "debug")
    for file in sorted((CONF / group).glob("*.yaml"))
]
NEEDED = {
    "stage=generate": ["stage.prompt=x"],
    "stage=tokenizer": ["stage.output=x"],
    "model=hf": ["model.path=tiny"],
    "data=mixture": ["data.parts=[gsm8k,math]"],
}


def checked(*overrides: str) -> Settings:
    config = composed(*overrides)
    validate(config)
    return config


@pytest.mark.parametrize("choice", CHOICES)
def test_every_file_of_every_group_composes(choice: str) -> None:
    # Eight processes of a cluster divide its defaults; a single one divides anything.
    overrides = [choice, *NEEDED.get(choice, [])]
    if choice.startswith("trainer="):
        overrides.append("stage.prompts_per_step=8")
    config = checked(*overrides)
    assert getattr(config, choice.split("=")[0]) is not None


@pytest.mark.parametrize(
    "overrides",
    [
        ["seed=7"],
        ["stage=eval", "eval.limit=3", "hydra.run.dir=x"],
        ["experiment=igpo_released", "model=tiny", "data.levels=[1,2]", "inpaint.ratio=0.5"],
        ["stage.group_size=4", "objective=dapo", "optimizer.betas=[0.9,0.99]"],
        ["+experiment=grpo"],
        ["stage.stepz=3"],
        ["stage.steps=a"],
    ],
    ids=" ".join,
)
def test_the_tests_compose_as_hydra_does(overrides: list[str]) -> None:
    """`composed` sets values in a copy of what it composed before."""
    try:
        expected = to_settings(raw(*overrides))
    except HydraException as error:
        with pytest.raises(type(error), match=re.escape(str(error).splitlines()[0])):
            composed(*overrides)
    else:
        assert composed(*overrides) == expected


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_composes(stage: str) -> None:
    if stage in ("export", "rewrite", "inspect", "report"):
        pytest.skip("tested with its stage: it needs a file")
    overrides = [f"stage={stage}", *NEEDED.get(f"stage={stage}", [])]
    assert checked(*overrides).stage.name == stage


@pytest.mark.parametrize("file", sorted(CONF.rglob("*.yaml")), ids=lambda f: f.stem)
def test_every_file_says_first_when_to_choose_it(file: Path) -> None:
    lines = file.read_text().splitlines()
    told = lines[1] if lines[0].startswith("# @package") else lines[0]
    assert told.startswith("# ")
    assert len(told) > 20


def defaults_of(group: type) -> dict[Any, Any]:
    """The fields' defaults as YAML would spell them."""
    values = OmegaConf.to_container(schema(group))
    assert isinstance(values, dict)
    return values


def leaves(node: Any, defaults: dict[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Key, value and the field's default, of every value in a file that a field has."""
    for key, value in node.items():
        default = defaults.get(key, dataclasses.MISSING)
        if isinstance(value, dict) and isinstance(default, dict):
            yield from leaves(value, default, f"{prefix}{key}.")
        elif default is not dataclasses.MISSING:
            yield f"{prefix}{key}", value, default


def inherited(file: Path) -> set[str]:
    """Keys that the files before this one set: these may go back to the field's default."""
    values = yaml.safe_load(file.read_text()) or {}
    keys = {"sampler.stop_after_eos"}  # conf/sampler/paper.yaml, which the root selects
    for item in values.get("defaults", []):
        if isinstance(item, dict) and "optional /sizes" in item:
            sizes = [yaml.safe_load(f.read_text()) or {} for f in (CONF / "sizes").rglob("*.yaml")]
            keys |= {".".join(path) for content in sizes for path in paths(content)}
        if isinstance(item, dict) and next(iter(item)).startswith("override /"):
            item = "../" + "/".join(next(iter(item.items()))).removeprefix("override /")
        parent = file.parent / f"{item}.yaml"
        if parent.is_file():
            content = yaml.safe_load(parent.read_text()) or {}
            content.pop("defaults", None)
            group = "" if "@package _global_" in parent.read_text() else f"{parent.parent.name}."
            keys |= {group + ".".join(path) for path in paths(content)} | inherited(parent)
    return keys


def paths(node: Any) -> Iterator[tuple[str, ...]]:
    """The keys that lead to each value."""
    if not isinstance(node, dict):
        yield ()
        return
    for key, value in node.items():
        yield from ((key, *rest) for rest in paths(value))


# Read after the files that they correct, so they say every size, also one that is the default.
CORRECTING = ("sizes", "debug")


@pytest.mark.parametrize(
    "file",
    [f for f in sorted(CONF.rglob("*.yaml")) if f.relative_to(CONF).parts[0] not in CORRECTING],
    ids=lambda f: str(f.relative_to(CONF)),
)
def test_a_value_stands_in_yaml_only_where_it_differs_from_its_field(file: Path) -> None:
    values = yaml.safe_load(file.read_text()) or {}
    values.pop("defaults", None)
    if "# @package _global_" not in file.read_text() and file.parent != CONF:
        values = {str(file.parent.relative_to(CONF)): values}
    stage = values.pop("stage", {})
    whole = defaults_of(Settings)
    same = {key for key, value, default in leaves(values, whole) if value == default}
    stages = [defaults_of(schema) for schema in STAGES.values()]
    for key, value in stage.items():
        defaults = [fields[key] for fields in stages if key in fields]
        same |= {f"stage.{key}"} if defaults and all(value == d for d in defaults) else set()
    assert same <= inherited(file), "remove what is the field's default"


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        # Values that do not fit together: the key, the value, what would be right.
        (["sampler.steps=33"], ["sampler.steps=33", "multiple of the 6 blocks", "36"]),
        (["sampler.block_length=7"], ["sampler.block_length=7", "completion_length=48"]),
        (["sampler.steps=60"], ["sampler.steps=60", "at most", "completion_length=48"]),
        (["inpaint.ratio_low=0.9"], ["inpaint.ratio_low=0.9", "inpaint.ratio_high=0.6"]),
        (["inpaint.ratio=1.5"], ["inpaint.ratio=1.5", "from 0 to 1"]),
        (["inpaint.replace_fraction=1.5"], ["inpaint.replace_fraction=1.5", "from 0 to 1"]),
        (["inpaint.replace_fraction=-0.1"], ["inpaint.replace_fraction=-0.1", "from 0 to 1"]),
        (["inpaint.chunk_min=9"], ["inpaint.chunk_min=9", "inpaint.chunk_max=6"]),
        (["inpaint.chunk_max=99"], ["inpaint.chunk_max=99", "sampler.completion_length=48"]),
        (["stage.group_size=1"], ["stage.group_size=1", "at least 2"]),
        (["stage.inner_updates=0"], ["stage.inner_updates=0", "at least 1"]),
        (["filter.keep_fraction=0"], ["filter.keep_fraction=0", "filter.kind=none"]),
        (["objective.ratio=both"], ["objective.ratio=both", "sequence", "token"]),
        (["objective.clip_low=2"], ["objective.clip_low=2", "from 0 to 1"]),
        (["optimizer.betas=[0.9]"], ["optimizer.betas=[0.9]", "two numbers"]),
        (["trainer.devices=2"], ["trainer.devices=2", "trainer.strategy=ddp or fsdp"]),
        (
            ["trainer=ddp", "stage.prompts_per_step=9"],
            ["stage.prompts_per_step=9", "multiple of the 8 processes"],
        ),
        (["reward.weights={}"], ["reward.weights", "at least one"]),
        (["experiment=igpo_released", "inpaint.tail=256"], ["inpaint.tail=256", "leaves no room"]),
        (["objective=grpo", "objective.ratio_length=full"], ["ratio_length=full", "sequence"]),
    ],
)
def test_values_that_do_not_fit_together(overrides: list[str], says: list[str]) -> None:
    if "reward.weights={}" in overrides:
        overrides = ["~reward.weights.correctness"]
    with pytest.raises(ConfigError) as error:
        checked(*overrides)
    for part in says:
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("stage.group_siz=4", ["stage.group_siz=4", "did you mean stage.group_size?"]),
        ("sampler.stps=4", ["sampler.stps=4", "did you mean sampler.steps?"]),
        ("nonsense=4", ["nonsense=4", "no key nonsense"]),
        ("stage.steps=abc", ["stage.steps=abc", "Integer"]),
        ("objective.beta=much", ["objective.beta=much", "Float"]),
        ("data=nope", ["data/nope", "arithmetic"]),
    ],
)
def test_unknown_keys_and_wrong_types(
    override: str, says: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["igpo-lightning", override])
    with pytest.raises(Exception) as error:  # noqa: PT011 - Hydra's own classes
        raw(override)
    for part in says:
        assert part in explain(error.value)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("inpaint.ratio_low=0.9", "error: inpaint.ratio_low=0.9: is above inpaint.ratio_high=0.6"),
        ("stage.group_siz=4", "error: stage.group_siz=4: there is no key"),
        ("objective=nonsense", "error: In 'config': Could not find 'objective/nonsense'"),
    ],
)
def test_a_mistake_is_told_before_anything_heavy_is_loaded(override: str, says: str) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "igpo_lightning", *override.split()]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    root = Path(__file__).parents[1]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "hydra" in imported
    assert not imported & {"torch", "lightning", "transformers"}
    # Seconds of processor time: the wall clock would measure what else the machine does.
    assert (after.ru_utime - before.ru_utime) + (after.ru_stime - before.ru_stime) < 2
