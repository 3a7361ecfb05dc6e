"""The benchmarks behind the tables of docs/likelihood.md: their models and measures are tested."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def estimator_benchmark() -> ModuleType:
    return _load("estimators")


@pytest.fixture(scope="session")
def memory_benchmark() -> ModuleType:
    return _load("likelihood")
