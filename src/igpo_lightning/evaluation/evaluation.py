"""Answer held-out problems, grade them and keep every sample."""

from typing import Any

from transformers import PreTrainedTokenizerFast

from igpo_lightning import distributed
from igpo_lightning.data.collate import PromptBatch
from igpo_lightning.diffusion.noise import stable_seed
from igpo_lightning.evaluation.answer import Answerer
from igpo_lightning.evaluation.grade import Grading, Pool
from igpo_lightning.evaluation.metrics import Accuracy, accuracy_of
from igpo_lightning.evaluation.records import evaluation_record, replays
from igpo_lightning.models import BackboneModule
from igpo_lightning.runs.leaving import Leave
from igpo_lightning.runs.signs import Signs
from igpo_lightning.settings import Settings


class Evaluation:
    """One evaluation after another: `begin`, `add` each batch, `finish`.

    Attributes:
        accuracy: Of the last one, the same on every rank; None before the first.
        samples: Its records, of all ranks.
        signs: Told what is answered, and how much of it is right so far on this rank.
    """

    def __init__(
        self,
        backbone: BackboneModule,
        tokenizer: PreTrainedTokenizerFast,
        pool: Pool,
        settings: Settings,
        signs: Signs | None = None,
        leave: Leave | None = None,
    ) -> None:
        sampler, rows = settings.evaluation_sampler, settings.eval.batch_size
        self.signs = signs or Signs()
        self.answerer = Answerer(backbone, tokenizer, sampler, rows, self.signs, leave or Leave())
        self.pool, self.seed = pool, settings.seed
        self.accuracy: Accuracy | None = None
        self.samples: list[dict[str, Any]] = []
        self._ungraded: list[tuple[PromptBatch, Grading, list[dict[str, Any]]]] = []

    def begin(self) -> None:
        """Forget the samples of an earlier evaluation."""
        self.samples, self._ungraded = [], []

    def add(self, batch: PromptBatch) -> None:
        """Answer one batch of (problem, sample) rows; it is graded while the next is answered."""
        answerer = self.answerer
        seeds = [
            stable_seed(self.seed, "evaluation", encoded.problem.id, sample)
            for encoded, sample in zip(batch.problems, batch.sample_indices, strict=True)
        ]
        self.signs.begin("evaluation", note=self.so_far())
        grading = Grading(self.pool, answerer.texts, batch.problems)
        output = answerer.answer(batch.problems, seeds, batch.device, on_rows=grading.start)
        steps = replays(output, answerer.tokenizer, answerer.model.eos_token_id)
        self._ungraded.append((batch, grading, steps))

    def so_far(self) -> str:
        """Answers that are done, and the accuracy among the graded ones, for people."""
        parts = [grading.so_far() for _, grading, _ in self._ungraded]
        answered = sum(len(batch.problems) for batch, *_ in self._ungraded)
        right, graded = sum(r for r, _ in parts), sum(n for _, n in parts)
        said = f"{answered} answers done"
        return f"{said}, {right / graded:.1%} of {graded} right" if graded else said

    def finish(self) -> Accuracy:
        """Bring the ranks' samples together and compute the accuracy."""
        own = [record for waiting in self._ungraded for record in self._records(*waiting)]
        self._ungraded = []
        gathered = [record for part in distributed.gather_objects(own) for record in part]
        self.samples = sorted(gathered, key=lambda s: (str(s["id"]), s["sample"]))
        self.accuracy = accuracy_of(self.samples)
        return self.accuracy

    def _records(
        self, batch: PromptBatch, grading: Grading, steps: list[dict[str, Any]]
    ) -> list[dict[str, Any]]:
        """The graded samples of one batch, with how each was denoised."""
        texts, verdicts = grading.finish()
        ids = [encoded.prompt_ids for encoded in batch.problems]
        prompts = self.answerer.tokenizer.batch_decode(ids)
        rows = zip(batch.problems, prompts, batch.sample_indices, texts, verdicts, strict=True)
        return [
            evaluation_record(*row) | step
            for row, step, counted in zip(rows, steps, batch.counted, strict=True)
            if counted
        ]

    def values(self, name: str = "eval/accuracy") -> dict[str, float]:
        """The accuracy with its interval, as loggers take it."""
        assert self.accuracy is not None
        return {
            name: self.accuracy.mean,
            f"{name}_low": self.accuracy.low,
            f"{name}_high": self.accuracy.high,
            "eval/problems": self.accuracy.problems,
        }
