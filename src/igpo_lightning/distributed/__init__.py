"""The only room that calls torch.distributed: ranks, signs of life, sharding."""

from igpo_lightning.distributed.lockstep import SOLO, Lockstep
from igpo_lightning.distributed.pulse import Pulse, is_lost_connection
from igpo_lightning.distributed.ranks import (
    any_rank,
    gather_objects,
    is_distributed,
    max_over_ranks,
    rank,
    world_size,
)
from igpo_lightning.distributed.sharding import (
    full,
    gathered,
    lockstep_of,
    read_sharded,
    shard,
    sharding_mesh,
)

__all__ = [
    "SOLO",
    "Lockstep",
    "Pulse",
    "any_rank",
    "full",
    "gather_objects",
    "gathered",
    "is_distributed",
    "is_lost_connection",
    "lockstep_of",
    "max_over_ranks",
    "rank",
    "read_sharded",
    "shard",
    "sharding_mesh",
    "world_size",
]
