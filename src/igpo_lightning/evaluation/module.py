"""The LightningModule that evaluates; the training modules are built on it."""

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import lightning
import torch
from transformers import PreTrainedTokenizerFast

from igpo_lightning import distributed
from igpo_lightning.data.collate import PromptBatch
from igpo_lightning.data.prompts import EncodedProblem
from igpo_lightning.diffusion.noise import stable_seed
from igpo_lightning.diffusion.sampler import SamplerConfig
from igpo_lightning.evaluation.grading import Grading
from igpo_lightning.evaluation.metrics import Accuracy, accuracy_of
from igpo_lightning.evaluation.records import evaluation_record, replays
from igpo_lightning.evaluation.runner import complete
from igpo_lightning.models import BackboneModule
from igpo_lightning.models.trained_state import save_trained_only
from igpo_lightning.rewards import GradingPool
from igpo_lightning.rewards.extraction import STRATEGY_ORDER
from igpo_lightning.rewards.worker import Grader
from igpo_lightning.runs.sharded_strategy import ShardedStrategy


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
        self.ungraded: list[tuple[PromptBatch, Grading, list[dict[str, Any]]]] = []
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

    def grading(self, problems: Sequence[EncodedProblem]) -> Grading:
        """Grades one row for each problem, while further rows are sampled."""
        golds = [encoded.problem.gold for encoded in problems]
        return Grading(self.pool, self.tokenizer, self.backbone.eos_token_id, golds)

    def on_validation_epoch_start(self) -> None:
        """Forget the samples of an earlier evaluation."""
        self.samples, self.ungraded = [], []

    def validation_step(self, batch: PromptBatch, batch_idx: int) -> None:
        """Answer one batch of (problem, sample) rows; it is graded while the next is answered."""
        settings = self.evaluation
        seeds = [
            stable_seed(settings.seed, "evaluation", encoded.problem.id, sample)
            for encoded, sample in zip(batch.problems, batch.sample_indices, strict=True)
        ]
        grading = self.grading(batch.problems)
        with self.sampling():
            completions = complete(
                self.backbone,
                batch.problems,
                seeds,
                settings.sampler,
                self.device,
                settings.batch_size,
                ranks=distributed.lockstep_of(self.backbone),
                on_rows=grading.start,
            )
        steps = replays(completions.output, self.tokenizer, self.backbone.eos_token_id)
        self.ungraded.append((batch, grading, steps))

    def collect_samples(
        self, batch: PromptBatch, grading: Grading, steps: list[dict[str, Any]]
    ) -> None:
        """Keep the graded samples of one batch, with how each was denoised."""
        texts, verdicts = grading.finish()
        prompts = self.tokenizer.batch_decode([encoded.prompt_ids for encoded in batch.problems])
        rows = zip(batch.problems, prompts, batch.sample_indices, texts, verdicts, strict=True)
        records = [evaluation_record(*row) for row in rows]
        self.samples += [
            record | step
            for record, step, counted in zip(records, steps, batch.counted, strict=True)
            if counted
        ]

    def on_validation_epoch_end(self) -> None:
        """Bring the ranks' samples together and compute the accuracy."""
        for waiting in self.ungraded:
            self.collect_samples(*waiting)
        self.ungraded = []
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
