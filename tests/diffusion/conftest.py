"""A model for the sampler's tests, and the benchmarks behind tables of the docs."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
from sampler_cases import tiny

from igpo_lightning.models.tiny import TinyBackbone

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


@pytest.fixture(scope="session")
def pass_benchmark() -> ModuleType:
    return _load("pass_counts")


@pytest.fixture(scope="session")
def slot_benchmark() -> ModuleType:
    return _load("slots")


@pytest.fixture(scope="session")
def model() -> TinyBackbone:
    return tiny()
