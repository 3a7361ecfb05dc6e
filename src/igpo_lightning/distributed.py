"""The only file that calls torch.distributed: what ranks tell each other outside of training."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any
from weakref import WeakSet

import torch
import torch.distributed as dist

# Sharded models whose parameters every rank holds for the time being, see `gathered`.
_GATHERED: WeakSet[torch.nn.Module] = WeakSet()


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


class Pulse:
    """Tells the other ranks, from a thread, that this one is alive, and asks which are not.

    A collective call that fails or waits says nothing about who is missing: its ring knows an
    address at best. The thread has a connection of its own to the ranks' store.
    """

    BEAT = 1.0  # seconds between signs of life
    PATIENCE = 10.0  # seconds without one, after which a rank is lost
    _ENDED = b"ended"

    def __init__(self) -> None:
        """Start the thread.

        Raises:
            RuntimeError: There is no process group, or its store cannot be reached.
        """
        self._store = dist.TCPStore(  # type: ignore[attr-defined]
            os.environ["MASTER_ADDR"],
            int(os.environ["MASTER_PORT"]),
            is_master=False,
            wait_for_workers=False,
            timeout=timedelta(seconds=self.PATIENCE),
        )
        self._others = [other for other in range(world_size()) if other != rank()]
        self._own = self._name(rank())
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="pulse", daemon=True)
        self._thread.start()

    @staticmethod
    def _name(other: int) -> str:
        return f"igpo_lightning/pulse/{other}"

    def _beat(self) -> None:
        count = 0
        # Without its store a rank ends by the collective call that fails, not by this thread.
        with suppress(RuntimeError):
            while not self._stop.wait(self.BEAT):
                count += 1
                self._store.set(self._own, str(count))

    def stop(self) -> None:
        """Give no more signs of life; a rank that ends first may take the store with it."""
        self._stop.set()
        self._thread.join()

    def end(self) -> None:
        """Say that this rank ends by itself, for a reason that it has told."""
        self.stop()
        with suppress(RuntimeError):
            self._store.set(self._own, self._ENDED.decode())

    def _seen(self) -> dict[int, bytes | None]:
        """The last sign of every other rank."""
        return {
            other: self._store.get(self._name(other))
            if self._store.check([self._name(other)])
            else None
            for other in self._others
        }

    def silent(self) -> dict[int, bool]:
        """Ranks that are gone, in order: True for those that said so before.

        Takes `PATIENCE` where one gives no sign of life. Where the store itself is gone, so is the
        rank that keeps it, the first one.
        """
        try:
            first = self._seen()
            waiting = set(self._others)
            deadline = time.monotonic() + self.PATIENCE
            while waiting and time.monotonic() < deadline:
                time.sleep(self.BEAT / 2)
                now = self._seen()
                waiting = {r for r in waiting if now[r] in (first[r], self._ENDED)}
                if all(now[r] == self._ENDED for r in waiting):
                    break
            return {r: now[r] == self._ENDED for r in sorted(waiting)}
        except RuntimeError:
            return {0: False}

    def wait_for_others(self, gone: set[int]) -> None:
        """Keep the store, where this rank has it, until all but those that are gone asked it."""
        deadline = time.monotonic() + self.PATIENCE
        with suppress(RuntimeError):
            while time.monotonic() < deadline:
                signs = self._seen()
                if all(signs[r] == self._ENDED for r in self._others if r not in gone):
                    return
                time.sleep(self.BEAT / 2)


def is_lost_connection(error: BaseException) -> bool:
    """Whether an error comes from ranks that cannot reach each other."""
    names = ("gloo", "nccl", "connection reset", "connection closed", "broken pipe")
    known = isinstance(error, RuntimeError) and any(n in str(error).lower() for n in names)
    return known or isinstance(error, dist.DistError)


def lockstep(model: torch.nn.Module) -> Callable[[bool], bool] | None:
    """`any_rank` where ranks share the model's weights, so that a pass needs all of them.

    None where each rank has the whole model and is free to take its own number of passes.
    """
    from torch.distributed.fsdp import FSDPModule

    shared = isinstance(model, FSDPModule) and model not in _GATHERED
    return any_rank if shared else None


@contextmanager
def gathered(model: torch.nn.Module, keep: bool) -> Iterator[None]:
    """Within it, every rank holds all of a sharded model's parameters, gathered once.

    Forward passes then need no collectives, so ranks may differ in their number. All ranks must
    enter and leave.

    Args:
        model: A backbone; without effect where it is not sharded.
        keep: Whether there is memory for it; without, each block is gathered when it runs.
    """
    from torch.distributed.fsdp import FSDPModule

    if not keep or not isinstance(model, FSDPModule):
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
) -> None:
    """Share a backbone's parameters over a device mesh with FSDP2, one unit for each block.

    Idempotent. `encode`, `project` and `head_weight` gather the parameters as `forward` does.

    Args:
        model: The backbone.
        mesh: One dimension: shards. Two: replicas of shards.
        compute_dtype: Parameters are gathered in it, gradients reduced in float32; None for the
            parameters' own.
        cpu_offload: Keep parameters, gradients and optimizer states in the CPU's memory.
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
    precision = MixedPrecisionPolicy()
    if compute_dtype is not None:
        precision = MixedPrecisionPolicy(param_dtype=compute_dtype, reduce_dtype=torch.float32)
    pinned = torch.cuda.is_available()
    offload = CPUOffloadPolicy(pin_memory=pinned) if cpu_offload else OffloadPolicy()
    for block in model.blocks:  # type: ignore[union-attr]
        fully_shard(block, mesh=mesh, mp_policy=precision, offload_policy=offload)
    fully_shard(model, mesh=mesh, mp_policy=precision, offload_policy=offload)
    for method in ("encode", "project", "head_weight"):
        register_fsdp_forward_method(model, method)
