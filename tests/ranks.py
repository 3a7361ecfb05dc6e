"""Ranks of a test: processes forked from one server, which imports torch and the package once."""

from collections.abc import Callable
from typing import Any

import torch.multiprocessing as mp

# What every rank needs; a fresh interpreter would take seconds for each of them. The last one keeps
# what the others imported out of the ranks' garbage collections.
_IMPORTS = [
    "pytest",
    "torch.distributed.fsdp",
    "igpo_lightning.evaluation.answer",
    "igpo_lightning.rl.sampler",
    "igpo_lightning.rl.inpainter",
    "igpo_lightning.distributed",
    "tests.small_backbones",
    "tests.frozen",
]


def run_ranks(function: Callable[..., None], world: int, *args: Any) -> None:
    """Call function(rank, *args) in a process for each rank, and wait for them all.

    Raises:
        Exception: A rank raised; the others are ended.
    """
    mp.set_forkserver_preload(_IMPORTS)
    mp.start_processes(function, args, nprocs=world, start_method="forkserver")
