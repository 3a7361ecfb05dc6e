"""Hostile model folders are refused in one line, soon, and without taking memory."""

import resource
import shutil
import time
from pathlib import Path

import pytest
import torch

from igpo_lightning.data.prompts import encode_chat
from igpo_lightning.errors import ConfigError
from igpo_lightning.models import chat_template, check_vocabulary, load_backbone, load_tokenizer
from tests.attacks.folders import BASES, FOLDERS, Folder, make_bases

SECONDS = 120  # a template's limit of computation, on a machine with ten other jobs


@pytest.fixture(autouse=True)
def a_second_for_a_template(monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of five, from the first template that starts the process."""
    monkeypatch.setattr(chat_template, "SECONDS", 1.0)


def peak_bytes() -> int:
    """The most that this process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("bases")
    make_bases(root)
    return root


def use(folder: Path) -> torch.Tensor:
    """What a stage does with a model: read the tokenizer, ask, load, compute."""
    tokenizer = load_tokenizer(str(folder))
    ids = encode_chat("3+4", "{question}", tokenizer)
    model = load_backbone(str(folder))
    check_vocabulary(model)
    with torch.no_grad():
        return model(torch.tensor([ids]))


@pytest.mark.parametrize("base", BASES)
def test_the_sound_folder_is_used(bases: Path, base: str) -> None:
    assert use(bases / base).isfinite().all()


@pytest.mark.parametrize("hostile", FOLDERS, ids=lambda hostile: hostile.attack)
def test_a_hostile_folder_is_refused_in_one_line(
    bases: Path, tmp_path: Path, hostile: Folder
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(bases / hostile.base, folder)
    hostile.spoil(folder)
    before, began = peak_bytes(), time.monotonic()
    with pytest.raises(ConfigError) as error:
        use(folder)
    assert time.monotonic() - began < SECONDS
    assert peak_bytes() - before < 400e6, "memory was taken for what is not there"
    told = str(error.value)
    assert hostile.says in told
    assert "\n" not in told
    assert len(told) < 1000
    assert str(folder) in told or "config.json" in told, "the file or folder is named"
