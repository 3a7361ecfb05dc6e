"""Code of the user's own: which file, which names, and what is told about mistakes."""

import sys
from pathlib import Path

import pytest
import torch

from igpo_lightning.checks import validate
from igpo_lightning.errors import ConfigError
from igpo_lightning.plugins import known_names, load_plugins, registered_names
from igpo_lightning.rewards import Verdict, functions
from igpo_lightning.rewards.functions import Graded
from igpo_lightning.rl import objectives
from tests.composing import composed

REWARD = """
from igpo_lightning.rewards import functions
from igpo_lightning.rewards.functions import register_reward

@register_reward("long")
def long(graded):
    return 1.0

@functions.register_reward("loud")
def loud(graded):
    return 2.0

def helper():
    pass
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file in the working directory, and registries that forget it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(functions, "_REWARDS", dict(functions._REWARDS))
    file = tmp_path / "mine.py"
    file.write_text(REWARD)
    yield file
    sys.modules.pop(f"igpo_plugin:{file}", None)


def test_names_are_read_without_importing(plugin: Path) -> None:
    plugin.write_text(REWARD + "\nraise SystemExit('imported')\n")
    assert registered_names(plugin, "register_reward") == ("long", "loud")
    assert registered_names(plugin, "register_objective") == ()
    config = composed("reward.plugin=mine.py", "+reward.weights.loud=0.5")
    validate(config)
    assert known_names(config, "reward")[-2:] == ("long", "loud")


def test_a_plugin_is_imported_once(plugin: Path) -> None:
    config = composed("reward.plugin=mine.py")
    load_plugins(config)
    load_plugins(config)  # a second import would register "long" again, which is an error
    assert functions.get_reward("loud").__name__ == "loud"
    validate(config)  # a sweep's next run


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["reward.plugin=yours.py"], "reward.plugin=yours.py: give a .py file; there is none in"),
        (["reward.plugin=mine"], "reward.plugin=mine: give a .py file"),
        (
            ["reward.plugin=mine.py", "+reward.weights.lod=1"],
            "reward.weights.lod=1.0: no reward has this name; use one of correctness, "
            "format_tags, length, long, loud,",
        ),
        (["objective.plugin=mine.py"], 'registers nothing; put @register_objective("NAME") above'),
        (["model.plugin=mine.py"], 'registers nothing; put @register_backbone("NAME") above'),
        (["objective.loss=long"], "objective.loss=long: use one of clip, linear_clip, "),
    ],
)
def test_mistakes_are_told(plugin: Path, overrides: list[str], says: str) -> None:
    with pytest.raises(ConfigError) as error:
        validate(composed(*overrides))
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (REWARD + "import nowhere_to_be_found\n", "line 15: importing it raised ModuleNotFound"),
        (REWARD + "1 / 0\n", "line 15: importing it raised ZeroDivisionError: division by zero"),
        (
            REWARD.replace("def long(graded)", "def long(text, verdict)"),
            "line 6: long(text, verdict) cannot be called as long(graded): missing a required",
        ),
    ],
)
def test_a_plugin_that_cannot_be_used_is_told_with_its_line(
    plugin: Path, text: str, says: str
) -> None:
    plugin.write_text(text)
    with pytest.raises(ConfigError) as error:
        load_plugins(composed("reward.plugin=mine.py"))
    assert f"reward.plugin: {plugin}, {says}" in str(error.value)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("return graded.nothing", "mine.py, line 7: long raised AttributeError: "),
        (
            "return 'much'",
            "mine.py: long returned 'much'; expected long(graded) to return a finite",
        ),
        ("pass", "mine.py: long returned None; expected long(graded) to return a finite number"),
    ],
)
def test_a_reward_that_fails_is_told_with_file_and_function(
    plugin: Path, body: str, says: str
) -> None:
    plugin.write_text(REWARD.replace("return 1.0", body))
    load_plugins(composed("reward.plugin=mine.py"))
    graded = Graded("text", Verdict(True, None), 1, 2)
    with pytest.raises(ConfigError) as error:
        functions.reward_parts([graded], ["long"])
    assert says in str(error.value)


OBJECTIVE = """
from igpo_lightning.rl.objectives import register_objective

@register_objective("mine")
def mine(logp, old_logp, advantages, loss_mask, settings):
    return BODY
"""


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("logp", "mine.py: mine returned Tensor; expected mine(logp, old_logp, advantages,"),
        ("logp @ old_logp", "mine.py, line 6: mine raised RuntimeError: "),
    ],
)
def test_an_objective_that_fails_is_told(
    plugin: Path, monkeypatch: pytest.MonkeyPatch, body: str, says: str
) -> None:
    monkeypatch.setattr(objectives, "OBJECTIVES", dict(objectives.OBJECTIVES))
    plugin.write_text(OBJECTIVE.replace("BODY", body))
    load_plugins(composed("objective.plugin=mine.py", "objective.loss=mine"))
    row = torch.zeros(2, 3)
    with pytest.raises(ConfigError) as error:
        objectives.policy_loss(row, row, torch.ones(2), row == 0, loss="mine")
    assert says in str(error.value)


def test_a_shipped_name_is_not_replaced(plugin: Path) -> None:
    plugin.write_text(REWARD.replace("loud", "length"))
    with pytest.raises(ConfigError, match="registers length, which is shipped; rename it"):
        validate(composed("reward.plugin=mine.py"))


def test_a_file_that_is_no_python(plugin: Path) -> None:
    plugin.write_text("def broken(:\n")
    with pytest.raises(ConfigError, match="cannot be read as Python: invalid syntax"):
        validate(composed("reward.plugin=mine.py"))
