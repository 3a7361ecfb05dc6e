"""The model that can be enumerated, shared with the benchmark that makes the table of the docs."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="session")
def estimator_benchmark() -> ModuleType:
    path = BENCHMARKS / "estimators.py"
    spec = importlib.util.spec_from_file_location("estimator_benchmark", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
