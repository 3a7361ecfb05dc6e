"""Problems in, token batches out: sources, prompts, collation and the embedded task."""

from igpo_lightning.data.problem import Problem
from igpo_lightning.data.prompts import EncodedProblem, encode_problem
from igpo_lightning.data.sources import load_problems

__all__ = ["EncodedProblem", "Problem", "encode_problem", "load_problems"]
