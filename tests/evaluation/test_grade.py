"""Grading goes on while the model samples; shown by what waits for what, not by a clock."""

import itertools
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import lightning
import pytest
import torch

from igpo_lightning.data.collate import PromptBatch
from igpo_lightning.data.datamodules import EvaluationData
from igpo_lightning.data.problem import Problem
from igpo_lightning.data.prompts import EncodedProblem, encode_problem
from igpo_lightning.evaluation import answer
from igpo_lightning.evaluation.answer import Answerer
from igpo_lightning.evaluation.evaluation import Evaluation
from igpo_lightning.evaluation.grade import Grading
from igpo_lightning.evaluation.module import EvaluationModule
from igpo_lightning.models.tiny import TinyBackbone
from igpo_lightning.models.tokenizer import train_tokenizer
from igpo_lightning.rewards import Verdict
from igpo_lightning.rl.cost import Cost
from igpo_lightning.rl.sampler import GroupSampler
from igpo_lightning.settings import EvalConfig, PromptConfig, RewardConfig, SamplerConfig, Settings
from tests.small_backbones import tiny_config

TOKENIZER = train_tokenizer(["12+34=46; 46-5=41"], 300)
SAMPLER = SamplerConfig(completion_length=8, block_length=8, steps=2, temperature=1.0)
SETTINGS = Settings(sampler=SAMPLER, eval=EvalConfig(temperature=1.0, batch_size=2))
PATIENCE = 20.0  # seconds until a grading that waits for sampling gives up, and the test fails


class PatientPool:
    """Grades a part only after the model has begun to sample the one after it.

    A caller that waits for each verdict before it goes on would wait here until the patience ends.
    """

    retried = 0

    def __init__(self, parts: int) -> None:
        self.begun = [threading.Event() for _ in range(parts)]
        self.events: list[str] = []
        self.sampled = self.graded = 0
        self.background = ThreadPoolExecutor(1)

    def watch(self, sample: Callable[..., Any], calls: int = 1) -> Callable[..., Any]:
        """A sampler, or a model, that tells when a part begins, after so many calls each."""
        made = itertools.count()

        def told(*args: Any, **named: Any) -> Any:
            if next(made) % calls == 0:
                self.begun[self.sampled].set()
                self.events.append(f"sample {self.sampled}")
                self.sampled += 1
            return sample(*args, **named)

        return told

    def submit(self, items: Sequence[tuple[str, str]]) -> "Future[list[Verdict]]":
        part, self.graded = self.graded, self.graded + 1
        return self.background.submit(self._grade, part, items)

    def _grade(self, part: int, items: Sequence[tuple[str, str]]) -> list[Verdict]:
        if part + 1 < len(self.begun):
            assert self.begun[part + 1].wait(PATIENCE), f"part {part} was waited for"
        self.events.append(f"grade {part}")
        return [Verdict(text.startswith(gold)) for gold, text in items]

    def close(self) -> None:
        self.background.shutdown()


def problem(name: str) -> EncodedProblem:
    form = PromptConfig("{question}", "{solution}", max_length=64)
    return encode_problem(Problem(name, f"{name}: 3+4", None, "7"), TOKENIZER, form)


def backbone() -> TinyBackbone:
    model = TinyBackbone(tiny_config(len(TOKENIZER)))
    model.initialize(torch.Generator().manual_seed(0))
    return model


def trainer() -> lightning.Trainer:
    return lightning.Trainer(
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def in_order(events: list[str], parts: int) -> bool:
    """Whether each part was graded once, after the sampling of the next had begun."""
    return sorted(events) == sorted(
        f"{what} {part}" for what in ("sample", "grade") for part in range(parts)
    ) and all(
        events.index(f"grade {part}") > events.index(f"sample {part + 1}")
        for part in range(parts - 1)
    )


def test_rows_that_are_done_are_graded_while_others_are_sampled() -> None:
    """Two prompts with G = 4 are 8 rows in 3 slots: 3, 3 and 2 rows, of two passes each."""
    pool, model = PatientPool(parts=3), backbone()
    model.encode = pool.watch(model.encode, SAMPLER.steps)  # type: ignore[method-assign]
    answerer = Answerer(model, TOKENIZER, SAMPLER, rows=3)
    sampler = GroupSampler(answerer, pool, 4, RewardConfig(), 0, Cost())
    # The first prompt is the longer one, and goes first.
    batch = PromptBatch(0, [problem("a longer one"), problem("b")], [0, 0], [True, True])
    rollout = sampler.groups(batch)
    pool.close()
    assert in_order(pool.events, 3)
    assert rollout.texts == answerer.texts(rollout.completion_ids)
    assert rollout.correct.tolist() == [text.startswith("7") for text in rollout.texts]


def test_an_evaluation_is_graded_while_its_next_batch_is_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Five problems in batches of two: three batches."""
    pool = PatientPool(parts=3)
    module = EvaluationModule(Evaluation(backbone(), TOKENIZER, pool, SETTINGS))
    monkeypatch.setattr(answer, "denoise", pool.watch(answer.denoise))
    data = EvaluationData([problem(name) for name in "abcde"], samples=1, batch_size=2)
    trainer().validate(module, datamodule=data, verbose=False)
    pool.close()
    assert in_order(pool.events, 3)
    samples = module.evaluation.samples
    assert [sample["id"] for sample in samples] == list("abcde")
    for sample in samples:
        assert sample["correct"] == sample["completion"].startswith("7")


def test_an_error_of_the_pool_comes_with_the_verdicts() -> None:
    class Broken(PatientPool):
        def _grade(self, part: int, items: Sequence[tuple[str, str]]) -> list[Verdict]:
            raise RuntimeError("no worker")

    pool = Broken(parts=1)
    grading = Grading(pool, lambda ids: ["8"] * len(ids), [problem("a")])
    grading.start([0], torch.tensor([[5, 6]]))
    with pytest.raises(RuntimeError, match="no worker"):
        grading.finish()
    pool.close()


def test_a_wait_for_graders_can_be_ended() -> None:
    """A pool that never answers: a signal need not wait for it."""

    class SilentPool(PatientPool):
        def submit(self, items: Sequence[tuple[str, str]]) -> "Future[list[Verdict]]":
            return Future()

    grading = Grading(SilentPool(0), lambda ids: ["text"] * len(ids), [problem("a")])
    grading.start([0], torch.zeros(1, 2, dtype=torch.long))
    with pytest.raises(InterruptedError):
        grading.finish(_interrupted)


def _interrupted() -> None:
    raise InterruptedError
