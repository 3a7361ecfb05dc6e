"""Under FSDP2 two ranks sample what one would, though each has its own number of passes to make."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from igpo_lightning import distributed
from igpo_lightning.data.problem import Problem
from igpo_lightning.data.prompts import EncodedProblem
from igpo_lightning.diffusion.sampler import DenoiseOutput
from igpo_lightning.evaluation.answer import Answerer
from igpo_lightning.models import BackboneModule
from igpo_lightning.settings import SamplerConfig
from tests.ranks import run_ranks
from tests.small_backbones import build_native

WORLD = 2
CONFIGS = (
    SamplerConfig(16, 8, 8, temperature=1.0, stop_after_eos=True),
    SamplerConfig(16, 8, 8, confidence_threshold=0.2),
    SamplerConfig(16, 8, 8, cache="dual", cfg_scale=0.5),
    SamplerConfig(16, 8, 8, temperature=1.0, cache="dual", drift_share=0.9),
)
# Blocks of 4: ranks meet in passes that write a finished block and in such that fill one.
BLOCK_CAUSAL = {
    "sdar": (
        SamplerConfig(16, 4, 8, temperature=1.0, stop_after_eos=True),
        SamplerConfig(16, 4, 16, confidence_threshold=0.2, edit_threshold=0.1, edit_passes=2),
    ),
    "fast_dllm_v2": (SamplerConfig(16, 2, 16, confidence_threshold=0.1, cache="dual"),),
}


def block_causal(name: str) -> BackboneModule:
    size = {"bd_size": 4} if name == "fast_dllm_v2" else {"block_size": 4}
    return build_native(name, **size)


def sample(model: BackboneModule, config: SamplerConfig, rows: list[int]) -> DenoiseOutput:
    """Rows of a job of 5; row 4 is all hints."""
    problems = [
        EncodedProblem(
            Problem(id=str(row), question="", solution=None, answer=""),
            [3 + row * 7 + i for i in range(2 + row % 2)],
            None,
            None,
        )
        for row in rows
    ]
    hints = torch.full((5, 16), -1)
    hints[1, :8], hints[4] = 9, 9
    tokenizer: Any = None  # no text is needed
    answerer = Answerer(model, tokenizer, config, rows=2)
    return answerer.answer(problems, rows, torch.device("cpu"), hints[rows])


def compare(rank: int, meeting: str) -> None:
    torch.set_num_threads(1)
    # Meeting in a file: a port that is free now may be taken when the ranks start.
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=WORLD)
    sharded = build_native("tiny")
    distributed.shard(sharded, dist.device_mesh.init_device_mesh("cpu", (WORLD,)))
    assert distributed.any_rank(rank == 1)
    assert not distributed.any_rank(False)
    # Rank 0 has two micro-batches, rank 1 one row, whose canvas is all hints.
    rows = [[0, 1, 2, 3], [4]][rank]
    for config in CONFIGS:
        expected = sample(build_native("tiny"), config, rows)
        output = sample(sharded, config, rows)
        assert torch.equal(output.completion_ids, expected.completion_ids)
        assert output.forward_passes == expected.forward_passes
        assert (output.forward_passes == 0) == (rank == 1)
    for name, configs in BLOCK_CAUSAL.items():
        sharded = block_causal(name)
        distributed.shard(sharded, dist.device_mesh.init_device_mesh("cpu", (WORLD,)))
        for config in configs:
            expected = sample(block_causal(name), config, rows)
            output = sample(sharded, config, rows)
            assert torch.equal(output.completion_ids, expected.completion_ids)
    dist.destroy_process_group()


def test_ranks_with_different_work_finish_together(tmp_path: Path) -> None:
    run_ranks(compare, WORLD, f"file://{tmp_path / 'meeting'}")


def test_a_model_that_is_whole_on_every_rank_needs_no_company() -> None:
    ranks = distributed.lockstep_of(build_native("tiny"))
    assert not ranks.shared
    ranks.finish(lambda: pytest.fail("an empty pass was made"))
    assert distributed.any_rank(True)
    assert not distributed.any_rank(False)
