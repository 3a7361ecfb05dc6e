"""The only file that calls torch.distributed: what ranks tell each other outside of training."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist


def is_distributed() -> bool:
    """Whether a process group is running."""
    return dist.is_available() and dist.is_initialized()


def rank() -> int:
    """This process's number, 0 without a process group."""
    return dist.get_rank() if is_distributed() else 0


def world_size() -> int:
    """Number of processes, 1 without a process group."""
    return dist.get_world_size() if is_distributed() else 1


def max_over_ranks(value: int) -> int:
    """The largest value of all ranks, so that they can take the same number of passes."""
    return max(gather_objects(value))


def gather_objects(item: Any) -> list[Any]:
    """One item of every rank, in rank order, on every rank."""
    if not is_distributed():
        return [item]
    items: list[Any] = [None] * world_size()
    dist.all_gather_object(items, item)
    return items


def any_rank(flag: bool) -> bool:
    """Whether the flag is set on any rank; the flag itself without a process group.

    Every rank must ask equally often.
    """
    if not is_distributed():
        return flag
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    answer = torch.tensor([flag], dtype=torch.int32, device=device)
    dist.all_reduce(answer, op=dist.ReduceOp.MAX)
    return bool(answer)


def lockstep(model: torch.nn.Module) -> Callable[[bool], bool] | None:
    """`any_rank` where ranks share the model's weights, so that a pass needs all of them.

    None where each rank has the whole model and is free to take its own number of passes.
    """
    from torch.distributed.fsdp import FSDPModule

    return any_rank if isinstance(model, FSDPModule) else None


def whole_state(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Every weight in full, on the first rank's CPU; nothing on the others, which must all ask."""
    from torch.distributed.tensor import DTensor

    whole = {}
    for name, tensor in model.state_dict().items():
        full = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
        if rank() == 0:
            whole[name] = full.detach().cpu()
    return whole


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


def shard(model: torch.nn.Module, mesh: Any) -> None:
    """Share a backbone's parameters over a device mesh with FSDP2, one unit for each block.

    Idempotent. `encode`, `project` and `head_weight` gather the parameters as `forward` does.
    """
    from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

    if isinstance(model, FSDPModule):
        return
    for block in model.blocks:  # type: ignore[union-attr]
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    for method in ("encode", "project", "head_weight"):
        register_fsdp_forward_method(model, method)
