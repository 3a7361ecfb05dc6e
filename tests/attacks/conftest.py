"""Whole runs of the command line, forked from a server that has imported what they need."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "integration"))
from run_fixture import runs

__all__ = ["runs"]
