"""provenance.json: what a run was made with."""

import json
import subprocess
from pathlib import Path

import pytest
import torch

from igpo_lightning.runs.provenance import (
    PROVENANCE_FILE,
    commit,
    hardware,
    read_provenance,
    save_provenance,
)


def test_the_file_has_versions_and_keeps_the_start(tmp_path: Path) -> None:
    assert read_provenance(tmp_path) == {}
    save_provenance(tmp_path)
    first = read_provenance(tmp_path)
    assert first["versions"]["torch"] == torch.__version__
    assert first["hardware"] == hardware()
    (tmp_path / PROVENANCE_FILE).write_text(json.dumps(first | {"started": "earlier"}))
    save_provenance(tmp_path)
    assert read_provenance(tmp_path)["started"] == "earlier", "a resumed run began before"


def test_the_commit_is_that_of_the_checkout(tmp_path: Path) -> None:
    assert commit(tmp_path) is None, "no checkout"
    git = ("git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.c")
    subprocess.run((*git, "init", "-q"), check=True)
    assert commit(tmp_path) is None, "no commit yet"
    subprocess.run((*git, "commit", "-q", "--allow-empty", "-m", "first"), check=True)
    found = commit(tmp_path)
    assert found is not None
    head = subprocess.run((*git, "rev-parse", "HEAD"), check=True, capture_output=True, text=True)
    assert head.stdout.startswith(found)


def test_the_hardware_is_the_accelerator_or_else_the_processor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert hardware().strip()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA A100")
    assert hardware().startswith("NVIDIA A100, CUDA")
