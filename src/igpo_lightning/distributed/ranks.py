"""What ranks tell each other outside of training."""

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
