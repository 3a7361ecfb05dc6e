"""Fixtures that every room's tests share."""

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[1].parent / "shared"


def _shared(name: str) -> Path:
    folder = SHARED / name
    if not folder.is_dir():
        pytest.skip(f"needs {folder}")
    return folder


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real problems that lives beside the repository, where there is one."""
    return _shared("data")


@pytest.fixture(scope="session")
def shared_golden() -> Path:
    """The folder of reference values that lives beside the repository, where there is one."""
    return _shared("golden")
