"""What a run was made with and on: versions, the commit, the device, and when it began."""

import datetime
import importlib.metadata
import json
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

import igpo_lightning
from igpo_lightning.runs import durable

PROVENANCE_FILE = "provenance.json"
_LIBRARIES = ("torch", "lightning", "transformers")
_CHECKOUT = Path(igpo_lightning.__file__).parents[2]


def commit(checkout: Path = _CHECKOUT) -> str | None:
    """The commit of a git checkout; None where the package is installed without one."""
    if not (checkout / ".git").exists():
        return None
    command = ["git", "-C", str(checkout), "rev-parse", "--short=12", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def hardware() -> str:
    """The device that computes: numbers depend on it and on its kernels."""
    if torch.cuda.is_available():
        return f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}"
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def save_provenance(folder: Path) -> None:
    """Write provenance.json; a run that goes on keeps the file of its start."""
    file = folder / PROVENANCE_FILE
    if file.exists():
        return
    versions = {"igpo_lightning": igpo_lightning.__version__, "python": platform.python_version()}
    versions |= {name: importlib.metadata.version(name) for name in _LIBRARIES}
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    content = {
        "started": now,
        "commit": commit(),
        "hardware": hardware(),
        "versions": versions,
    }
    durable.write_text(file, json.dumps(content, indent=2) + "\n")


def read_provenance(folder: Path) -> dict[str, Any]:
    """What provenance.json says; empty where a run has none."""
    file = folder / PROVENANCE_FILE
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.exists() else {}
