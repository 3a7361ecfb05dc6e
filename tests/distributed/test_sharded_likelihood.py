"""Under FSDP2 two ranks score and learn as one would, whatever each of them has to count."""

import os
import socket
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.distributed import fsdp

from igpo_lightning import distributed
from igpo_lightning.diffusion import draw_masked_inputs, likelihood, token_scores
from igpo_lightning.models.tiny import TinyBackbone
from igpo_lightning.settings import LikelihoodConfig
from tests.ranks import run_ranks
from tests.small_backbones import tiny_config

WORLD = 2


def tiny(tied: bool) -> TinyBackbone:
    torch.manual_seed(0)
    sizes = {"intermediate_size": 24, "tie_word_embeddings": tied, "initializer_range": 0.3}
    return TinyBackbone(tiny_config(40, num_hidden_layers=2, **sizes))


def compare(rank: int, tied: bool, linear: bool) -> None:
    whole, sharded = tiny(tied), tiny(tied)
    distributed.shard(sharded, dist.device_mesh.init_device_mesh("cpu", (WORLD,)))
    if not linear:  # a head of another kind, in three parts
        sharded.head_weight = lambda: None
        likelihood.part_count = lambda *_: 3
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(3, 40, (4, 10), generator=generator)
    counted = torch.rand(4, 6, generator=generator) < 0.6
    counted[:2] = False  # rank 0 has nothing to count
    everywhere = torch.ones_like(counted)
    inputs = draw_masked_inputs(
        LikelihoodConfig("strata", strata=3),
        ids[:, 4:],
        keys=torch.arange(4),
        live_mask=everywhere,
    )
    own = slice(2 * rank, 2 * rank + 2)
    scores = token_scores(
        sharded, ids[own, :4], ids[own, 4:], inputs.rows(own), counted=counted[own]
    )
    scores.logp.sum().backward()
    expected = token_scores(whole, ids[:, :4], ids[:, 4:], inputs, counted=counted)
    (expected.logp.sum() / WORLD).backward()  # FSDP averages over ranks
    torch.testing.assert_close(scores.logp, expected.logp[own], atol=1e-5, rtol=1e-5)
    for mine, reference in zip(sharded.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(mine.grad.full_tensor(), reference.grad, atol=1e-5, rtol=1e-4)
    assert any(float(p.grad.abs().max()) > 0 for p in whole.parameters())


def worker(rank: int, port: int) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=WORLD)
    for tied in (True, False):
        for linear in (True, False):
            compare(rank, tied, linear)
    dist.destroy_process_group()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.slow
def test_two_ranks_score_as_one():
    run_ranks(worker, WORLD, free_port())


def call_methods(rank: int, port: int) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=1)
    register, called = fsdp.register_fsdp_forward_method, []

    def register_strictly(module: Any, name: str) -> None:
        register(module, name)
        wrapped = getattr(module, name)

        def with_an_argument(*args: Any, **kwargs: Any) -> Any:
            assert args or kwargs, f"{name} was called without an argument"
            called.append(name)
            return wrapped(*args, **kwargs)

        setattr(module, name, with_an_argument)

    fsdp.register_fsdp_forward_method = register_strictly
    whole, sharded = tiny(False), tiny(False)
    distributed.shard(sharded, dist.device_mesh.init_device_mesh("cpu", (1,)))
    ids = torch.arange(3, 11)[None]
    torch.testing.assert_close(sharded.project(sharded.encode(ids)), whole(ids))
    torch.testing.assert_close(sharded.head_weight(), whole.head_weight())
    assert called == ["encode", "project", "head_weight"]
    dist.destroy_process_group()


def test_methods_of_a_sharded_model_get_an_argument():
    """On a GPU, FSDP before torch 2.13 fails with an IndexError where a method has none."""
    run_ranks(call_methods, 1, free_port())
