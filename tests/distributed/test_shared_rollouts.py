"""Ranks share first and extra rows evenly: the rollout of one process, whoever is all-wrong."""

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from igpo_lightning import distributed
from igpo_lightning.data.collate import PromptBatch, rank_positions
from igpo_lightning.data.problem import Problem
from igpo_lightning.data.prompts import EncodedProblem
from igpo_lightning.evaluation.answer import Answerer
from igpo_lightning.models import BackboneModule
from igpo_lightning.rewards import Verdict
from igpo_lightning.rl.cost import Cost
from igpo_lightning.rl.inpainter import Inpainter
from igpo_lightning.rl.rollout import Rollout
from igpo_lightning.rl.sampler import GroupSampler
from igpo_lightning.rl.sharing import Request, deal
from igpo_lightning.settings import InpaintConfig, RewardConfig, SamplerConfig
from tests.ranks import run_ranks
from tests.small_backbones import build_native

GROUP = 4
EXACT = SamplerConfig(16, 8, 8, temperature=1.0, stop_after_eos=True)
SAMPLERS = {
    "exact": EXACT,
    "dual": replace(EXACT, cache="dual", confidence_threshold=0.3),
    "growing": replace(EXACT, canvas="growing", cache="prefix"),
}
FIELDS = ("completion_ids", "hint_mask", "unmask_step", "correct", "rewards", "replaced")
# Problem 0 is right around hints alone; it is the first rank's.
HINTS = InpaintConfig(ratio=1.0, chunk_min=2, chunk_max=3)
TRACE = [31, 32, 33, 34, 35, 36]


class Digits:
    """A tokenizer for texts that are lists of token ids."""

    def batch_decode(self, rows: list[list[int]]) -> list[str]:
        return [" ".join(map(str, row)) for row in rows]

    def convert_ids_to_tokens(self, ids: list[int]) -> list[str]:
        return [str(i) for i in ids]


class ByGold:
    """Right where the gold answer says so, or where the text holds the trace."""

    retried = 0

    def submit(self, items: list[tuple[str, str]]) -> Future[list[Verdict]]:
        done: Future[list[Verdict]] = Future()
        shown = " ".join(map(str, TRACE))
        done.set_result([Verdict(gold == "easy" or shown in text, None) for gold, text in items])
        return done


def problems(count: int) -> list[EncodedProblem]:
    return [
        EncodedProblem(
            Problem(id=str(i), question="", solution=None, answer="easy" if i else "hard"),
            [3 + i * 7 + j for j in range(2 + i % 2)],
            TRACE,
            None,
        )
        for i in range(count)
    ]


def batch(count: int, rank: int, world: int) -> PromptBatch:
    mine = [problems(count)[place] for place in rank_positions(0, count, rank, world)]
    parts = max(1, world // count)
    filled = [0] * len(mine)
    return PromptBatch(5, mine, filled, [True] * len(mine), part=rank % parts, parts=parts)


def rollout(
    model: BackboneModule, of: PromptBatch, rows: int, config: SamplerConfig = EXACT
) -> tuple[Rollout, Cost, dict[str, Any]]:
    """First and extra samples of a step."""
    tokenizer: Any = Digits()
    answerer, cost = Answerer(model, tokenizer, config, rows), Cost()
    pool: Any = ByGold()
    sampler = GroupSampler(answerer, pool, GROUP, RewardConfig(), 0, cost)
    first = sampler.groups(of)
    settings = replace(HINTS, exclude_answer=False)
    after, measures = Inpainter(settings, sampler, 10).inpaint(of, first)
    return after, cost, measures


def whole(model: BackboneModule) -> None:
    pass


def sharded(gathered: bool) -> Callable[[BackboneModule], None]:
    def shard(model: BackboneModule) -> None:
        mesh = dist.device_mesh.init_device_mesh("cpu", (distributed.world_size(),))
        distributed.shard(model, mesh, gather_rollouts=gathered)

    return shard


STRATEGIES = {"whole": whole, "gathered": sharded(True), "per block": sharded(False)}


def counted_calls(model: BackboneModule) -> list[int]:
    """Rows of each pass that the model makes from now on."""
    calls: list[int] = []
    encode = model.encode

    def counted(ids: torch.Tensor, *args: Any, **named: Any) -> torch.Tensor:
        calls.append(len(ids))
        return encode(ids, *args, **named)

    model.encode = counted  # type: ignore[method-assign]
    return calls


def compare(rank: int, meeting: str, world: int, count: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=world)
    samples = torch.load(meeting.removeprefix("file://") + ".expected", weights_only=True)
    own = batch(count, rank, world)
    home = slice(
        int(own.problems[0].problem.id) * GROUP, (int(own.problems[-1].problem.id) + 1) * GROUP
    )
    for name, prepare in STRATEGIES.items():
        model = build_native("tiny")
        prepare(model)
        calls = counted_calls(model)
        for kind, config in SAMPLERS.items():
            after, cost, measures = rollout(model, own, rows=3, config=config)
            assert len({len(c) for c in distributed.gather_objects(calls)}) == 1, (name, kind)
            for field, values in samples[kind].items():
                assert torch.equal(getattr(after, field), values[home]), (name, kind, field)
            generated = distributed.gather_objects(cost.work["tokens/rollout"])
            assert max(generated) - min(generated) <= 2 * config.completion_length, (name, kind)
            assert ("hint/ratio_mean" in measures) == (rank < max(1, world // count))
    dist.destroy_process_group()


@pytest.mark.parametrize(
    ("world", "count"),
    [
        (2, 2),
        (2, 1),
        pytest.param(4, 4, marks=pytest.mark.slow),
        pytest.param(4, 2, marks=pytest.mark.slow),
    ],
)
def test_ranks_share_rows_evenly_and_get_what_one_process_gets(
    tmp_path: Path, world: int, count: int
) -> None:
    """The first group alone is all-wrong; its extra rows are dealt out over all ranks."""
    samples = {}
    for kind, config in SAMPLERS.items():
        made, _, measures = rollout(build_native("tiny"), batch(count, 0, 1), 64, config)
        assert measures["hint/replaced"].value == 2
        assert made.replaced.tolist() == [True, True] + [False] * (count * GROUP - 2)
        samples[kind] = {field: getattr(made, field) for field in FIELDS}
    torch.save(samples, tmp_path / "meeting.expected")
    run_ranks(compare, world, f"file://{tmp_path / 'meeting'}", world, count)


def test_a_rank_to_which_no_row_is_dealt_makes_none() -> None:
    """Fewer rows than ranks: what it sends home has no rows, and a column a reward."""
    tokenizer: Any = Digits()
    pool: Any = ByGold()
    answerer = Answerer(build_native("tiny"), tokenizer, EXACT, 3)
    sampler = GroupSampler(answerer, pool, GROUP, RewardConfig(), 0, Cost())
    made = sampler.complete(Request([], []), torch.device("cpu"), own_answers=False)
    assert made.completion_ids.shape == (0, 16)
    assert made.reward_parts.shape == (0, len(RewardConfig().weights))


@pytest.mark.parametrize(("rows", "ranks"), [(8, 2), (7, 4), (3, 4), (0, 2), (154, 64)])
def test_a_deal_is_even_and_keeps_the_order(rows: int, ranks: int) -> None:
    parts = [list(range(rows))[part] for part in deal(rows, ranks)]
    assert [row for part in parts for row in part] == list(range(rows))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
