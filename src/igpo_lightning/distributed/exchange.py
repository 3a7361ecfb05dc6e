"""One rank of a test of the connection: `python -m igpo_lightning.distributed.exchange ...`."""

import datetime
import json
import sys
import time

import torch
import torch.distributed as dist

NUMBERS = 4 * 2**20  # float32 numbers that are summed for the speed


def exchange(rank: int, world: int, backend: str, meeting: str, seconds: float) -> float:
    """Sum, gather and broadcast over all ranks; returns bytes per second of the sum.

    Args:
        backend: gloo | nccl.
        meeting: A file that no one has written yet.
        seconds: After which a call gives up.

    Raises:
        RuntimeError: A result is wrong, or a rank does not answer.
    """
    timeout = datetime.timedelta(seconds=seconds)
    device = torch.device("cuda", rank) if backend == "nccl" else torch.device("cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group(
        backend, init_method=f"file://{meeting}", rank=rank, world_size=world, timeout=timeout
    )
    try:
        own = torch.full((8,), rank + 1.0, device=device)
        dist.all_reduce(own)
        parts = [torch.empty(1, device=device) for _ in range(world)]
        dist.all_gather(parts, torch.full((1,), float(rank), device=device))
        told = torch.full((1,), float(rank), device=device)
        dist.broadcast(told, src=world - 1)
        right = (
            own.tolist() == [world * (world + 1) / 2] * 8
            and [part.item() for part in parts] == [float(i) for i in range(world)]
            and told.item() == world - 1
        )
        if not right:
            raise RuntimeError(f"rank {rank}: wrong sum, gathering or broadcast")
        large = torch.ones(NUMBERS, device=device)
        dist.all_reduce(large)  # the first call makes the connections
        start = time.perf_counter()
        dist.all_reduce(large)
        float(large[0])
        return 4 * NUMBERS / (time.perf_counter() - start)
    finally:
        dist.destroy_process_group()


if __name__ == "__main__":
    _, number, size, kind, place, limit = sys.argv
    print(json.dumps(exchange(int(number), int(size), kind, place, float(limit))))
