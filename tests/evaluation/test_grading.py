"""Grading goes on while the model samples; shown by what waits for what, not by a clock."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import lightning
import pytest
import torch

from igpo_lightning.data.collate import PromptBatch
from igpo_lightning.data.datamodules import EvaluationData
from igpo_lightning.data.problem import Problem
from igpo_lightning.data.prompts import EncodedProblem, encode_problem
from igpo_lightning.evaluation import runner
from igpo_lightning.evaluation.grading import Grading
from igpo_lightning.evaluation.module import EvaluationModule, EvaluationSettings
from igpo_lightning.models.tiny import TinyBackbone, TinyConfig
from igpo_lightning.models.tokenizer import train_tokenizer
from igpo_lightning.rewards import Verdict
from igpo_lightning.rl.sampling import RolloutModule
from igpo_lightning.rl.settings import RLSettings
from igpo_lightning.settings import (
    FilterConfig,
    InpaintConfig,
    LikelihoodConfig,
    ObjectiveConfig,
    PromptConfig,
    SamplerConfig,
)

TOKENIZER = train_tokenizer(["12+34=46; 46-5=41"], 300)
SAMPLER = SamplerConfig(completion_length=8, block_length=8, steps=2, temperature=1.0)
EVALUATION = EvaluationSettings(SAMPLER, batch_size=2, samples=1, seed=0)
PATIENCE = 20.0  # seconds until a grading that waits for sampling gives up, and the test fails


class PatientPool:
    """Grades a part only after the model has begun to sample the one after it.

    A caller that waits for each verdict before it goes on would wait here until the patience ends.
    """

    def __init__(self, parts: int) -> None:
        self.begun = [threading.Event() for _ in range(parts)]
        self.events: list[str] = []
        self._sampled = self._graded = 0
        self._thread = ThreadPoolExecutor(1)

    def watch(self, denoise: Callable[..., Any]) -> Callable[..., Any]:
        """A sampler that tells when it begins."""

        def told(*args: Any, **named: Any) -> Any:
            self.begun[self._sampled].set()
            self.events.append(f"sample {self._sampled}")
            self._sampled += 1
            return denoise(*args, **named)

        return told

    def submit(self, items: list[tuple[str, str]]) -> "Future[list[Verdict]]":
        part, self._graded = self._graded, self._graded + 1
        return self._thread.submit(self._grade, part, items)

    def _grade(self, part: int, items: list[tuple[str, str]]) -> list[Verdict]:
        if part + 1 < len(self.begun):
            assert self.begun[part + 1].wait(PATIENCE), f"part {part} was waited for"
        self.events.append(f"grade {part}")
        return [Verdict(text.startswith(gold)) for gold, text in items]

    def close(self) -> None:
        self._thread.shutdown()


def problem(name: str) -> EncodedProblem:
    form = PromptConfig("{question}", "{solution}", max_length=64)
    return encode_problem(Problem(name, f"{name}: 3+4", None, "7"), TOKENIZER, form)


def backbone() -> TinyBackbone:
    model = TinyBackbone(
        TinyConfig(
            vocab_size=len(TOKENIZER),
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
        )
    )
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


def test_a_rollout_is_graded_while_its_next_micro_batch_is_sampled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two prompts with G = 4 are 8 rows: 3 micro-batches of 3, 3 and 2 rows."""
    settings = RLSettings(
        sampler=SAMPLER,
        group_size=4,
        inner_updates=1,
        steps=1,
        rollout_batch_size=3,
        train_batch_size=8,
        inpaint=InpaintConfig(),
        filter=FilterConfig(),
        objective=ObjectiveConfig(),
        likelihood=LikelihoodConfig(),
        reward_weights={"correctness": 1.0},
        seed=0,
        log_samples_every=0,
    )
    pool = PatientPool(parts=3)
    module = RolloutModule(backbone(), TOKENIZER, EVALUATION, settings)
    module._pool = pool  # type: ignore[assignment]
    module.trainer = trainer()
    monkeypatch.setattr(runner, "denoise", pool.watch(runner.denoise))
    # The second prompt is the shorter one, so that micro-batches are not in the order of the rows.
    batch = PromptBatch(0, [problem("a longer one"), problem("b")], [0, 0], [True, True])
    rollout = module.sample_groups(batch)
    module.close()
    assert in_order(pool.events, 3)
    texts = runner.decode_live(rollout.completion_ids, TOKENIZER, module.backbone.eos_token_id)
    assert rollout.texts == texts
    assert rollout.correct.tolist() == [text.startswith("7") for text in texts]


def test_an_evaluation_is_graded_while_its_next_batch_is_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Five problems in batches of two: three batches."""
    pool = PatientPool(parts=3)
    module = EvaluationModule(backbone(), TOKENIZER, EVALUATION)
    module._pool = pool  # type: ignore[assignment]
    monkeypatch.setattr(runner, "denoise", pool.watch(runner.denoise))
    data = EvaluationData([problem(name) for name in "abcde"], samples=1, batch_size=2)
    trainer().validate(module, datamodule=data, verbose=False)
    module.close()
    assert in_order(pool.events, 3)
    assert [sample["id"] for sample in module.samples] == list("abcde")
    for sample in module.samples:
        assert sample["correct"] == sample["completion"].startswith("7")


def test_an_error_of_the_pool_comes_with_the_verdicts() -> None:
    class Broken(PatientPool):
        def _grade(self, part: int, items: list[tuple[str, str]]) -> list[Verdict]:
            raise RuntimeError("no worker")

    pool = Broken(parts=1)
    grading = Grading(pool, TOKENIZER, 0, ["7"])  # type: ignore[arg-type]
    grading.start([0], torch.tensor([[5, 6]]))
    with pytest.raises(RuntimeError, match="no worker"):
        grading.finish()
    pool.close()
