"""Code of the user's own: which file, which names, and what is told about mistakes."""

import sys
from pathlib import Path

import pytest

from igpo_lightning.checks import validate
from igpo_lightning.errors import ConfigError
from igpo_lightning.plugins import known_names, load_plugins, registered_names
from igpo_lightning.rewards import functions
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


def test_a_shipped_name_is_not_replaced(plugin: Path) -> None:
    plugin.write_text(REWARD.replace("loud", "length"))
    with pytest.raises(ConfigError, match="registers length, which is shipped; rename it"):
        validate(composed("reward.plugin=mine.py"))


def test_a_file_that_is_no_python(plugin: Path) -> None:
    plugin.write_text("def broken(:\n")
    with pytest.raises(ConfigError, match="cannot be read as Python: invalid syntax"):
        validate(composed("reward.plugin=mine.py"))
