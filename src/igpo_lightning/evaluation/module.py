"""The LightningModule that evaluates; the training modules are built on it."""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import lightning
import torch
from transformers import PreTrainedTokenizerFast

from igpo_lightning import distributed
from igpo_lightning.checkpointing import ShardedStrategy
from igpo_lightning.data.collate import PromptBatch
from igpo_lightning.diffusion.noise import stable_seed
from igpo_lightning.diffusion.sampler import SamplerConfig
from igpo_lightning.evaluation.metrics import Accuracy, accuracy_of
from igpo_lightning.evaluation.runner import Completions, complete, decode_live
from igpo_lightning.models import BackboneModule
from igpo_lightning.models.trained_state import save_trained_only
from igpo_lightning.rewards import GradingPool, Verdict
from igpo_lightning.rewards.extraction import STRATEGY_ORDER
from igpo_lightning.rewards.worker import Grader


@dataclass(frozen=True)
class EvaluationSettings:
    """How problems are answered and graded.

    Attributes:
        sampler: With the evaluation's temperature.
        batch_size: Rows a denoising pass.
        samples: k of avg@k.
        seed: Run seed.
        workers: Grader processes.
        timeout: Seconds a grading may take.
        grader: Compares answers where they are puzzles'; None for plain equivalence.
        extraction: How an answer is found in a text (see `rewards.extraction.STRATEGIES`).
    """

    sampler: SamplerConfig
    batch_size: int
    samples: int
    seed: int
    workers: int = 2
    timeout: float = 3.0
    grader: Grader | None = None
    extraction: tuple[str, ...] = STRATEGY_ORDER


class EvaluationModule(lightning.LightningModule):
    """Answers problems, grades them and keeps every sample.

    After `trainer.validate`, `accuracy` and `samples` hold the result on every rank.
    """

    def __init__(
        self,
        backbone: BackboneModule,
        tokenizer: PreTrainedTokenizerFast,
        evaluation: EvaluationSettings,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.tokenizer = tokenizer
        self.evaluation = evaluation
        self.accuracy: Accuracy | None = None
        self.samples: list[dict[str, Any]] = []
        self.seconds: dict[str, float] = defaultdict(float)
        self._pool: GradingPool | None = None
        save_trained_only(self)

    def configure_model(self) -> None:
        """Share the parameters over the mesh that ModelParallelStrategy lays out."""
        self.shard(self.backbone)

    def shard(self, model: BackboneModule) -> None:
        """Share a model's parameters as the strategy says; without effect under other ones."""
        strategy = self.trainer.strategy if self._trainer is not None else None
        if self.device_mesh is not None and isinstance(strategy, ShardedStrategy):
            distributed.shard(
                model,
                distributed.sharding_mesh(self.device_mesh),
                compute_dtype=strategy.compute_dtype,
                cpu_offload=strategy.cpu_offload,
            )

    @contextmanager
    def sampling(self) -> Iterator[None]:
        """Around denoising: sharded parameters stay gathered where the strategy has the memory."""
        strategy = self.trainer.strategy
        keep = isinstance(strategy, ShardedStrategy) and strategy.gather_rollouts
        with distributed.gathered(self.backbone, keep):
            yield

    @property
    def pool(self) -> GradingPool:
        """The grader processes, started when first needed."""
        if self._pool is None:
            self._pool = GradingPool(
                self.evaluation.workers,
                self.evaluation.timeout,
                self.evaluation.grader,
                self.evaluation.extraction,
            )
        return self._pool

    def close(self) -> None:
        """Stop the grader processes."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the time spent inside to `seconds[name]`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - start

    def grade(self, completions: Completions, golds: list[str]) -> tuple[list[str], list[Verdict]]:
        """Texts and verdicts of completions, in order."""
        ids = completions.output.completion_ids
        texts = decode_live(ids, self.tokenizer, self.backbone.eos_token_id)
        return texts, self.pool.grade(list(zip(golds, texts, strict=True)))

    def on_validation_epoch_start(self) -> None:
        """Forget the samples of an earlier evaluation."""
        self.samples = []

    def validation_step(self, batch: PromptBatch, batch_idx: int) -> None:
        """Answer and grade one batch of (problem, sample) rows."""
        settings = self.evaluation
        seeds = [
            stable_seed(settings.seed, "evaluation", encoded.problem.id, sample)
            for encoded, sample in zip(batch.problems, batch.sample_indices, strict=True)
        ]
        with self.sampling():
            completions = complete(
                self.backbone,
                batch.problems,
                seeds,
                settings.sampler,
                self.device,
                settings.batch_size,
                any_rank=distributed.lockstep(self.backbone),
            )
        golds = [encoded.problem.gold for encoded in batch.problems]
        texts, verdicts = self.grade(completions, golds)
        rows = zip(
            batch.problems, batch.sample_indices, batch.counted, texts, verdicts, strict=True
        )
        self.samples += [
            {
                "id": encoded.problem.id,
                "sample": sample,
                "level": encoded.problem.level,
                "question": encoded.problem.question,
                "answer": encoded.problem.answer,
                "completion": text,
                **asdict(verdict),
            }
            for encoded, sample, counted, text, verdict in rows
            if counted
        ]

    def on_validation_epoch_end(self) -> None:
        """Bring the ranks' samples together and compute the accuracy."""
        gathered = [s for part in distributed.gather_objects(self.samples) for s in part]
        self.samples = sorted(gathered, key=lambda s: (str(s["id"]), s["sample"]))
        self.accuracy = accuracy_of(self.samples)
        self.log("eval/accuracy", self.accuracy.mean, prog_bar=True, logger=False)

    def log_accuracy(self, step: int) -> None:
        """Write the accuracy with its interval to the loggers.

        Args:
            step: Steps that the policy has made; 0 for the one that training starts from.
        """
        assert self.accuracy is not None
        values = {
            "eval/accuracy": self.accuracy.mean,
            "eval/accuracy_low": self.accuracy.low,
            "eval/accuracy_high": self.accuracy.high,
            "eval/problems": self.accuracy.problems,
        }
        for logger in self.loggers:
            logger.log_metrics(values, step=step)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, index: int) -> Any:
        """Batches of problems stay as they are: rows become tensors where they are used."""
        if isinstance(batch, PromptBatch):
            return batch
        return super().transfer_batch_to_device(batch, device, index)
