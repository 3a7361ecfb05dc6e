"""Who names a lost rank: signs of life do, torch's own barrier does not."""

import datetime
import os
import signal
import socket
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing

from igpo_lightning import distributed

WORLD = 3


class QuickPulse(distributed.Pulse):
    BEAT, PATIENCE = 0.2, 3.0


def lose_a_rank(rank: int, port: int, lost: int, barrier: bool, folder: Path) -> None:
    """One rank is killed; each of the others notes what it can say about it."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    limit = datetime.timedelta(seconds=20)
    dist.init_process_group("gloo", rank=rank, world_size=WORLD, timeout=limit)
    pulse = QuickPulse()
    dist.barrier()
    if rank == lost:
        os.kill(os.getpid(), signal.SIGKILL)
    with pytest.raises(RuntimeError) as failed:
        dist.all_reduce(torch.ones(1))
    assert distributed.is_lost_connection(failed.value)
    if barrier:
        with pytest.raises(RuntimeError) as refused:
            dist.monitored_barrier(timeout=limit, wait_all_ranks=True)
        said = f"{failed.value} {refused.value}"
    else:
        silent = pulse.silent()
        said = str([number for number, ended_by_itself in silent.items() if not ended_by_itself])
        pulse.end()
        if rank == 0:
            pulse.wait_for_others(set(silent))
    (folder / str(rank)).write_text(said)


def told(folder: Path, lost: int, barrier: bool) -> list[str]:
    """What the ranks that are left say."""
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        port = place.getsockname()[1]
    context = torch.multiprocessing.get_context("spawn")
    ranks = [
        context.Process(target=lose_a_rank, args=(rank, port, lost, barrier, folder))
        for rank in range(WORLD)
    ]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(90)
    return [(folder / str(rank)).read_text() for rank in range(WORLD) if rank != lost]


@pytest.mark.slow
@pytest.mark.parametrize("lost", [1, 2])
def test_signs_of_life_name_the_lost_rank(tmp_path: Path, lost: int) -> None:
    assert told(tmp_path, lost, barrier=False) == [str([lost])] * 2


@pytest.mark.slow
def test_a_monitored_barrier_does_not(tmp_path: Path) -> None:
    """Why `Pulse` is there; once this fails, torch names the rank itself, and `Pulse` can go."""
    for said in told(tmp_path, 1, barrier=True):
        assert "onnection" in said
        assert "rank 1" not in said.lower()
