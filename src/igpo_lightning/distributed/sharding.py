"""Parameters shared over ranks with FSDP2."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from weakref import WeakSet

import torch

from igpo_lightning.distributed.lockstep import SOLO, Lockstep
from igpo_lightning.distributed.ranks import any_rank

# Sharded models that `gathered` gathers, and those whose parameters every rank holds just now.
_GATHERS: WeakSet[torch.nn.Module] = WeakSet()
_GATHERED: WeakSet[torch.nn.Module] = WeakSet()


def lockstep_of(model: torch.nn.Module) -> Lockstep:
    """All ranks where they share the model's weights, `SOLO` where each has the whole model."""
    from torch.distributed.fsdp import FSDPModule

    shared = isinstance(model, FSDPModule) and model not in _GATHERED
    return Lockstep(any_rank) if shared else SOLO


@contextmanager
def gathered(model: torch.nn.Module) -> Iterator[None]:
    """Within it, every rank holds all of a model's parameters, gathered once.

    Forward passes then need no collectives, so ranks may differ in their number. All ranks must
    enter and leave. Without effect on a model that was not sharded with `gather_rollouts`: there
    each block is gathered when it runs.
    """
    from torch.distributed.fsdp import FSDPModule

    if model not in _GATHERS or not isinstance(model, FSDPModule):
        yield
        return
    parts = [part for part in model.modules() if isinstance(part, FSDPModule)]
    for part in parts:
        part.set_reshard_after_forward(False, recurse=False)
        part.unshard()
    _GATHERED.add(model)
    try:
        yield
    finally:
        _GATHERED.discard(model)
        for part in parts:
            part.reshard()
            # As `fully_shard` sets it: the root's own parameters stay for the backward pass.
            part.set_reshard_after_forward(part is not model, recurse=False)


def full(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor in full, which all ranks must ask for where they share it."""
    from torch.distributed.tensor import DTensor

    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def read_sharded(folder: Path, prefix: str) -> dict[str, torch.Tensor]:
    """The tensors of a sharded checkpoint whose names start with a prefix, without it.

    Needs no process group, whatever the number of ranks that wrote the shards.
    """
    from torch.distributed.checkpoint.filesystem import FileSystemReader
    from torch.distributed.checkpoint.metadata import TensorStorageMetadata
    from torch.distributed.checkpoint.state_dict_loader import load

    entries = FileSystemReader(folder).read_metadata().state_dict_metadata
    tensors = {
        name: torch.empty(entry.size, dtype=entry.properties.dtype)
        for name, entry in entries.items()
        if name.startswith(prefix) and isinstance(entry, TensorStorageMetadata)
    }
    load(tensors, storage_reader=FileSystemReader(folder), no_dist=True)
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}


def sharding_mesh(mesh: Any) -> Any:
    """The mesh to shard over, of Lightning's (data_parallel, tensor_parallel).

    Its second dimension, where it has more than one member, holds the shards of one replica, and
    the first the replicas (hybrid sharding: parameters are gathered within a node only).
    """
    return mesh if mesh["tensor_parallel"].size() > 1 else mesh["data_parallel"]


def shard(
    model: torch.nn.Module,
    mesh: Any,
    compute_dtype: torch.dtype | None = None,
    cpu_offload: bool = False,
    gather_rollouts: bool = False,
) -> None:
    """Share a backbone's parameters over a device mesh with FSDP2, one unit for each block.

    Idempotent. `encode`, `project` and `head_weight` gather the parameters as `forward` does.

    Args:
        mesh: One dimension: shards. Two: replicas of shards.
        compute_dtype: Parameters are gathered in it, gradients reduced in float32; None for the
            parameters' own.
        cpu_offload: Keep parameters, gradients and optimizer states in the CPU's memory.
        gather_rollouts: Whether there is memory for `gathered`.
    """
    from torch.distributed.fsdp import (
        CPUOffloadPolicy,
        FSDPModule,
        MixedPrecisionPolicy,
        OffloadPolicy,
        fully_shard,
        register_fsdp_forward_method,
    )

    if isinstance(model, FSDPModule):
        return
    if gather_rollouts:
        _GATHERS.add(model)
    precision = MixedPrecisionPolicy()
    if compute_dtype is not None:
        precision = MixedPrecisionPolicy(param_dtype=compute_dtype, reduce_dtype=torch.float32)
    pinned = torch.cuda.is_available()
    offload = CPUOffloadPolicy(pin_memory=pinned) if cpu_offload else OffloadPolicy()
    for block in model.blocks:  # type: ignore[union-attr]
        fully_shard(block, mesh=mesh, mp_policy=precision, offload_policy=offload)
    fully_shard(model, mesh=mesh, mp_policy=precision, offload_policy=offload)
    for method in ("encode", "project"):
        register_fsdp_forward_method(model, method)
    # Before torch 2.13, FSDP on a GPU fails at a method without an argument: this one is given one.
    plain: Any = model.head_weight
    model.head_weight = lambda _: plain()  # type: ignore[assignment]
    register_fsdp_forward_method(model, "head_weight")
    gathering: Any = model.head_weight
    model.head_weight = lambda: gathering(None)  # type: ignore[assignment]
