"""A mistake in the user's own files and arguments: file, line, key, and what to do."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

import igpo_lightning
from tests.integration.forked import CommandServer

OWN_FILES = {
    "experiment/typo.yaml": "# @package _global_\ndefaults: [tiny]\ninpaint:\n  ratoi: 0.3\n",
    "inpaint/typo.yaml": "{noise: 0.1, ratoi: 0.3}\n",
    "experiment/wrong.yaml": "# @package _global_\ndefaults: [tiny]\nstage:\n  steps: many\n",
    "inpaint/broken.yaml": "noise: 0.1\nratio: [0.3\n",
}
# An argument's word, and the package that it needs.
PACKAGES = {"wandb": "wandb", "trackio": "trackio", "search": "optuna", "slurm": "submitit"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in OWN_FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


@pytest.fixture
def refused(command_server: CommandServer, folder: Path) -> Callable[..., str]:
    """What the command line says about arguments that it refuses."""

    def run(*arguments: str) -> str:
        printed, errors = folder / "printed.log", folder / "errors.log"
        status = command_server.run(arguments, printed, errors=str(errors), cwd=str(folder))
        said = errors.read_text()
        assert status == 2, said
        assert "Traceback" not in said
        return said

    return run


def refused_anew(folder: Path, *arguments: str, **variables: str) -> str:
    """The same of a process of its own, which reads the environment as it imports."""
    source = str(Path(igpo_lightning.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-m", "igpo_lightning", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": source, **variables},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.mark.parametrize(
    ("choice", "says"),
    [
        (
            "experiment=typo",
            "experiment/typo.yaml, line 4: there is no key inpaint.ratoi; did you mean "
            "inpaint.ratio?",
        ),
        ("inpaint=typo", "inpaint/typo.yaml, line 1: there is no key inpaint.ratoi; did you mean"),
        ("experiment=wrong", "experiment/wrong.yaml, line 4: stage.steps: Value 'many' of type"),
        ("inpaint=broken", "inpaint/broken.yaml, line 3: not YAML: expected ',' or ']'"),
    ],
)
def test_a_mistake_in_a_file_names_file_and_line(
    refused: Callable[..., str], folder: Path, choice: str, says: str
) -> None:
    assert says in refused("--config-dir", str(folder), choice)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["reward.weights={my_reward: 1.0}"], "write +reward.weights.my_reward=VALUE"),
        (["nonsense"], "nonsense: cannot be read (missing EQUAL at '<EOF>'); write KEY=VALUE"),
        (["inpaint=nonsense"], "Available options in 'inpaint':"),
        (
            ["likelihood=elbo"],
            "likelihood=elbo: likelihood has no files; set its keys (",
        ),
        (["+experiment=tiny"], "drop the plus: experiment=tiny"),
        (["logger=wandb", "dry_run=true"], "logger=wandb: needs the package wandb"),
        (["logger=trackio", "dry_run=true"], "pip install 'igpo-lightning[trackio]'"),
        (["-m", "hydra/sweeper=search", "seed=0,1"], "pip install 'igpo-lightning[sweeps]'"),
        (["-m", "hydra/launcher=slurm", "seed=0,1"], "pip install 'igpo-lightning[sweeps]'"),
        (["stage=generate"], "stage.prompt='A+12 B-21 from 45'"),
    ],
)
def test_a_mistake_in_an_argument_says_what_to_do(
    refused: Callable[..., str], arguments: list[str], says: str
) -> None:
    for word, package in PACKAGES.items():
        if any(word in argument for argument in arguments) and find_spec(package):
            pytest.skip(f"{package} is installed")
    said = refused(*arguments)
    assert says in said
    assert "Config search path" not in said


def test_an_invalid_run_of_a_sweep_is_refused_before_the_first_one(
    refused: Callable[..., str], folder: Path
) -> None:
    said = refused("-m", "inpaint.ratio=0.2,1.5", f"hydra.sweep.dir={folder / 'sweep'}")
    assert "inpaint.ratio=1.5: give a number from 0 to 1. No run of the sweep was started" in said
    assert not list(folder.glob("sweep/*/config.yaml"))


@pytest.mark.slow
def test_a_hub_that_does_not_answer_is_said_within_seconds(folder: Path) -> None:
    began = time.monotonic()
    # A port that nothing listens on; a name that does not resolve takes the same way.
    said = refused_anew(
        folder,
        *("model=hf", "model.path=owner/name", "dry_run=true"),
        HF_ENDPOINT="http://127.0.0.1:9",
        HF_HOME=str(folder),
        HF_HUB_OFFLINE="0",
    )
    assert "model.path=owner/name is not a folder" in said
    assert "hub unreachable" in said
    assert time.monotonic() - began < 60  # of which the start of Python is most; retries took 30 s
    said = refused_anew(folder, "model=hf", "model.path=owner/name", HF_HUB_OFFLINE="1")
    assert "HF_HUB_OFFLINE is set" in said
