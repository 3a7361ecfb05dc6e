"""The typed root in a script: the command line's settings, checks and types."""

import dataclasses
import subprocess
import sys

import pytest
from hydra.core.global_hydra import GlobalHydra

from igpo_lightning import compose
from igpo_lightning.config import plain, read_settings
from igpo_lightning.errors import ConfigError
from igpo_lightning.settings import STAGES, RLStage, Settings
from tests.composing import hydra_ready


def test_overrides_become_frozen_objects() -> None:
    settings = compose(["experiment=espo", "model=tiny", "data=arithmetic", "trainer=cpu"])
    assert isinstance(settings, Settings)
    assert isinstance(settings.stage, RLStage)
    assert settings.likelihood.kind == "pairs"
    assert settings.optimizer.betas == (0.9, 0.99)
    assert settings.data.levels  # from the file, as a tuple
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.sampler.steps = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("sampler.steps=33", r"sampler\.steps=33: must be a multiple of the 6 blocks"),
        ("inpaint.chunk_max=99", r"inpaint\.chunk_max=99: a hint chunk is longer"),
    ],
)
def test_the_command_lines_checks_hold(override: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        compose([override])


def test_it_leaves_hydra_as_it_was() -> None:
    with hydra_ready():
        before = GlobalHydra.instance().hydra
        assert compose(["seed=1"]).seed == 1
        with pytest.raises(ConfigError):
            compose(["stage.group_size=1"])
        assert GlobalHydra.instance().hydra is before
    assert compose(["seed=2"]).seed == 2


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys, igpo_lightning\n"
        "assert 'hydra' not in sys.modules\n"
        "igpo_lightning.compose(['model=tiny'])\n"
        "assert not {'torch', 'lightning', 'transformers'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["rl", "sft", "eval", "eval_suite", "inspect", "report"])
def test_a_runs_file_gives_its_settings_back(name: str, tmp_path) -> None:
    from omegaconf import OmegaConf

    path = {"report": "x"}.get(name)
    settings = compose([f"stage={name}", "data=gsm8k", "logger=[]", f"path={path or 'null'}"])
    file = tmp_path / "config.yaml"
    OmegaConf.save(OmegaConf.create(plain(settings)), file)
    assert read_settings(file) == settings
    assert type(read_settings(file).stage) is STAGES[name]


def test_a_file_of_another_version_is_refused_in_words(tmp_path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("stage: {name: rl}\nsampler: {forbidden_ids: []}\n")
    with pytest.raises(ConfigError, match="was written by another version"):
        read_settings(file)
