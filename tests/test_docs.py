"""Every command in README and docs composes, and every link leads somewhere."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from igpo_lightning.checks import validate
from igpo_lightning.config import CONF, register_schemas

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMAND = re.compile(r"python -m igpo_lightning(?![.\w])((?:[^\n`\\]|\\\n)*)")


def commands() -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        for match in COMMAND.finditer(page.read_text()):
            arguments = match.group(1).replace("\\\n", " ").partition(" #")[0].strip()
            # "..." stands for what the reader adds; --help and --cfg are Hydra's own.
            if "..." not in arguments and not arguments.startswith("--"):
                found.append((page.name, arguments))
    return found


@pytest.fixture(autouse=True)
def _hydra(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("OPENAI_MODEL", "a-model")  # as docs/rewriting.md says to set it
    register_schemas()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


@pytest.mark.parametrize(("page", "arguments"), sorted(set(commands())))
def test_a_command_composes(page: str, arguments: str) -> None:
    overrides = [part for part in shlex.split(arguments) if part not in ("-m", "--multirun")]
    hydra_own = ("hydra.", "hydra/")
    # A sweep's comma-separated values: the first of each is one of its runs.
    if arguments.startswith("-m"):
        overrides = [o.split(",")[0] for o in overrides if "[" not in o]
    config = compose("config", [o for o in overrides if not o.startswith(hydra_own)])
    if "inpaint.ratio_low=0.9" in overrides:  # shown as a mistake
        return
    validate(config)
    assert config.stage.name


def test_there_are_commands_to_check() -> None:
    assert {page for page, _ in commands()} >= {"README.md", "configuration.md"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_pictures_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target
