"""A policy of a few thousand random parameters, hand-made problems, and graders with a plan."""

import functools
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any

import lightning
import torch
from lightning.pytorch.loggers import Logger
from torch.utils.data import DataLoader, Dataset

from igpo_lightning import distributed
from igpo_lightning.data.collate import PromptBatch, rank_positions
from igpo_lightning.data.problem import Problem
from igpo_lightning.data.prompts import EncodedProblem, encode_problem
from igpo_lightning.models import BackboneModule
from igpo_lightning.models.tiny import TinyBackbone
from igpo_lightning.models.tokenizer import train_tokenizer
from igpo_lightning.rewards import Verdict
from igpo_lightning.rl.module import RLModule
from igpo_lightning.settings import (
    EvalConfig,
    InpaintConfig,
    OptimizerConfig,
    PromptConfig,
    RewardConfig,
    RLStage,
    SamplerConfig,
    Settings,
)
from tests.small_backbones import tiny_config

SAMPLER = SamplerConfig(completion_length=16, block_length=8, steps=4, temperature=1.0)
TOKENIZER = train_tokenizer(["12+34=46; 46-5=41"], 300)
# The letters are in no prompt and a random model hardly ever writes three of them in a row.
TRACE = "xyz xyz xyz = 7"

Grade = Callable[[int, str], bool]  # (row within the call, text) -> right?


class PlannedPool:
    """Stands in for the grader processes: verdicts by a rule of the test's."""

    retried = 0

    def __init__(self, rule: Grade) -> None:
        self.rule = rule

    def grade(self, items: Sequence[tuple[str, str]]) -> list[Verdict]:
        right = [self.rule(row, text) for row, (_, text) in enumerate(items)]
        return [Verdict(r, None if r else "wrong") for r in right]

    def submit(self, items: Sequence[tuple[str, str]]) -> Future[list[Verdict]]:
        done: Future[list[Verdict]] = Future()
        done.set_result(self.grade(items))
        return done

    def __enter__(self) -> "PlannedPool":
        return self

    def __exit__(self, *_: object) -> None:
        pass


class Recorder(Logger):
    """Keeps what was logged."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[dict[str, float]] = []

    @property
    def name(self) -> str:
        return "recorder"

    @property
    def version(self) -> str:
        return "0"

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.lines.append(dict(metrics))

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        pass


@dataclass
class Run:
    """What a short training left behind."""

    module: RLModule
    lines: list[dict[str, float]]
    samples: list[dict[str, Any]]

    def parameters(self) -> torch.Tensor:
        return torch.cat([p.detach().flatten() for p in self.module.backbone.parameters()])


def problem(name: str, trace: str | None = TRACE) -> EncodedProblem:
    form = PromptConfig("{question}", "{solution}", max_length=64)
    return encode_problem(Problem(name, f"{name}: 3+4", trace, "7"), TOKENIZER, form)


def backbone(seed: int = 0) -> TinyBackbone:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return TinyBackbone(tiny_config(len(TOKENIZER)))


def drifting_backbone() -> TinyBackbone:
    """Two layers: within one, what a cache keeps of other blocks is not stale."""
    made = TinyBackbone(tiny_config(len(TOKENIZER), num_hidden_layers=2, initializer_range=0.3))
    made.initialize(torch.Generator().manual_seed(0))
    return made


STAGE = RLStage(steps=2, group_size=4, inner_updates=2, log_samples_every=1)
SETTINGS = Settings(
    stage=STAGE,
    sampler=SAMPLER,
    inpaint=InpaintConfig(chunk_min=2, chunk_max=3),
    optimizer=OptimizerConfig(1e-2, (0.9, 0.99), 0.1, 1.0, 0, 0.0),
    eval=EvalConfig(temperature=1.0, batch_size=8),
)


def _keep(samples: list[dict[str, Any]], step: int, records: list[dict[str, Any]]) -> None:
    samples.extend(records)


class Steps(Dataset[PromptBatch]):
    """Every step has all problems; each rank takes its share of them."""

    def __init__(self, problems: list[EncodedProblem], steps: int) -> None:
        self.problems, self.steps = problems, steps

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> PromptBatch:
        if step >= self.steps:
            raise IndexError(step)
        count, rank, world = len(self.problems), distributed.rank(), distributed.world_size()
        places = rank_positions(0, count, rank, world)
        mine = [self.problems[place] for place in places]
        parts = max(1, world // count)
        counted = [True] * len(mine)
        positions = [step * count + place for place in places]
        return PromptBatch(
            step,
            mine,
            [0] * len(mine),
            counted,
            part=rank % parts,
            parts=parts,
            positions=positions,
        )


def train(
    rule: Grade,
    steps: int = 1,
    problems: list[EncodedProblem] | None = None,
    loggers: list[Logger] | None = None,
    ranks: int = 1,
    policy: BackboneModule | None = None,
    stage: RLStage = STAGE,
    reward_weights: dict[str, float] = SETTINGS.reward.weights,
    **changes: Any,
) -> Run:
    """Train for a few steps; returns what came of it."""
    reward = RewardConfig(weights=reward_weights)
    settings = replace(SETTINGS, stage=stage, reward=reward, **changes)
    problems = problems or [problem("a"), problem("b")]
    samples: list[dict[str, Any]] = []
    module = RLModule(
        policy or backbone(),
        TOKENIZER,
        PlannedPool(rule),
        settings,
        on_samples=functools.partial(_keep, samples),
    )
    recorder = Recorder()
    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=ranks,
        strategy="auto" if ranks == 1 else "ddp_spawn",
        use_distributed_sampler=False,
        max_steps=steps * stage.inner_updates,
        logger=[recorder, *(loggers or [])],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, DataLoader(Steps(problems, steps), batch_size=None))
    return Run(module, recorder.lines, samples)
