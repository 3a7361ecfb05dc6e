"""When ranks leave what is under way, and that they do so in the same place."""

import os
import socket
from pathlib import Path

import pytest
import torch.distributed as dist

from igpo_lightning.distributed import SOLO, Lockstep, any_rank
from igpo_lightning.runs.leaving import Leave, LeftError
from tests.ranks import run_ranks


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_step_may_end_within_the_grace() -> None:
    clock = Clock()
    leave = Leave(clock)
    leave.alone()
    leave.together()
    leave.tell()
    clock.now += Leave.GRACE - 0.1
    leave.tell()  # a second signal gives no second grace
    leave.alone()
    leave.together()
    clock.now += 0.2
    for ask in (leave.alone, leave.together):
        with pytest.raises(LeftError):
            ask()


def test_one_process_leaves_ahead_of_a_pass() -> None:
    clock = Clock()
    leave = Leave(clock)
    ranks = leave.between_passes(SOLO)
    ranks.before_pass()
    leave.tell()
    clock.now += Leave.GRACE
    with pytest.raises(LeftError), leave.meeting(apart=False):
        ranks.before_pass()


def told_alone(rank: int, port: int, folder: Path) -> None:
    """The second rank is told after two passes; each notes how many it made before it left."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    dist.init_process_group("gloo", rank=rank, world_size=2)
    for shared in (True, False):
        leave, made = Leave(), 0
        ranks = leave.between_passes(Lockstep(any_rank) if shared else SOLO)

        def answer(leave: Leave = leave, ranks: Lockstep = ranks) -> None:
            nonlocal made
            for _ in range(5):
                if rank == 1 and made == 2:
                    leave.deadline = leave.clock()
                ranks.before_pass()
                made += 1
            ranks.finish(lambda: None)

        with pytest.raises(LeftError), leave.meeting(apart=not shared):
            answer()
        dist.barrier()  # both have left, and neither waits for the other elsewhere
        (folder / f"{rank}-{shared}").write_text(str(made))


def test_two_ranks_leave_together(tmp_path: Path) -> None:
    """Ranks that share weights before the same pass; others meet when their passes are done."""
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        port = place.getsockname()[1]
    run_ranks(told_alone, 2, port, tmp_path)
    made = {file.name: file.read_text() for file in tmp_path.iterdir()}
    assert made == {"0-True": "2", "1-True": "2", "0-False": "5", "1-False": "2"}
