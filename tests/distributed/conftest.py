"""Whole runs of the command line, on several processes."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "integration"))
from run_fixture import runs

__all__ = ["runs"]
