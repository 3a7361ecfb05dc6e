"""IGPO as a LightningModule: state and order of calls; the formulas live in the pure files."""

import math
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from igpo_lightning import distributed
from igpo_lightning.data.collate import PromptBatch
from igpo_lightning.data.prompts import EncodedProblem
from igpo_lightning.diffusion.forward_process import live_mask
from igpo_lightning.diffusion.likelihood import (
    LikelihoodSettings,
    MaskedInputs,
    TokenScores,
    draw_masked_inputs,
    token_scores,
)
from igpo_lightning.diffusion.noise import row_keys, stable_seed
from igpo_lightning.diffusion.sampler import SamplerConfig
from igpo_lightning.evaluation.module import EvaluationModule, EvaluationSettings
from igpo_lightning.evaluation.runner import complete
from igpo_lightning.inpainting.hints import FREE, choose_hints, draw_ratio
from igpo_lightning.optimization import OptimizerSettings, build_optimizer
from igpo_lightning.rewards.functions import combine_rewards
from igpo_lightning.rl.advantages import group_advantages
from igpo_lightning.rl.filters import entropy_filter
from igpo_lightning.rl.objectives import policy_loss
from igpo_lightning.rl.rollout import Rollout, all_wrong, inject


@dataclass(frozen=True)
class RLSettings:
    """Algorithm 1's inputs, as plain values; see config.py for units and the paper's choices."""

    sampler: SamplerConfig
    group_size: int
    inner_updates: int
    steps: int
    rollout_batch_size: int
    train_batch_size: int
    inpaint: bool
    ratio_low: float
    ratio_high: float
    chunk_min: int
    chunk_max: int
    replace_fraction: float
    filter_hints: bool
    keep_fraction: float
    advantage: str
    ratio: str
    clip_low: float
    clip_high: float
    beta: float
    kl: str
    reward_weights: dict[str, float]
    likelihood: LikelihoodSettings
    seed: int
    log_samples_every: int


class RLModule(EvaluationModule):
    """Inpainting-Guided Policy Optimization (arXiv 2509.10396); GRPO when `inpaint` is off."""

    def __init__(
        self,
        backbone: PreTrainedModel,
        tokenizer: PreTrainedTokenizerFast,
        evaluation: EvaluationSettings,
        settings: RLSettings,
        optimizer: OptimizerSettings,
        on_samples: Callable[[int, list[dict[str, Any]]], None] | None = None,
    ) -> None:
        super().__init__(backbone, tokenizer, evaluation)
        # Several optimizer steps a batch: Lightning's manual optimization.
        self.automatic_optimization = False
        self.settings = settings
        self.optimizer_settings = optimizer
        self.on_samples = on_samples
        self.reference: PreTrainedModel | None = None
        if settings.beta:
            self.reference = deepcopy(backbone).requires_grad_(False).eval()

    def configure_model(self) -> None:
        """Shard policy and reference alike."""
        super().configure_model()
        if self.reference is not None and self.device_mesh is not None:
            distributed.shard(self.reference, self.device_mesh["data_parallel"])

    def configure_optimizers(self) -> dict[str, Any]:
        """AdamW over the policy's parameters alone."""
        total = self.settings.steps * self.settings.inner_updates
        return build_optimizer(self.backbone.parameters(), self.optimizer_settings, total)

    # ---- Algorithm 1 ------------------------------------------------------------------------

    def training_step(self, batch: PromptBatch, batch_idx: int) -> None:
        """One pass of Algorithm 1's loop: sample, inpaint all-wrong groups, update mu times."""
        self.seconds.clear()
        rollout = self.sample_groups(batch)  # 1. G completions a prompt, graded
        before = all_wrong(rollout.grouped(rollout.correct))
        metrics: dict[str, float] = {}
        if self.settings.inpaint:  # 2. hints for the groups in which every answer is wrong
            rollout, metrics = self.inpaint(batch, rollout, before)
        advantages = group_advantages(  # 3. relative to the updated group
            rollout.grouped(rollout.rewards), self.settings.advantage
        ).flatten()
        inputs = self.masked_inputs(batch, rollout, advantages)
        with self.phase("update"), torch.no_grad():
            old = self.score(self.backbone, rollout, inputs)
            reference = self.score(self.reference, rollout, inputs) if self.reference else None
            loss_mask = self.loss_mask(rollout, old.entropy)
        for _ in range(self.settings.inner_updates):  # 4. mu clipped updates
            with self.phase("update"):
                metrics |= self.update(rollout, inputs, old, reference, advantages, loss_mask)
        self.report(batch, rollout, before, old, loss_mask, metrics)

    def sample_groups(self, batch: PromptBatch) -> Rollout:
        """G graded completions for each prompt of the batch."""
        problems = [p for p in batch.problems for _ in range(self.settings.group_size)]
        return self.generate(batch.step, problems, "rollout")

    def inpaint(
        self, batch: PromptBatch, rollout: Rollout, wrong: Tensor
    ) -> tuple[Rollout, dict[str, float]]:
        """Sample all-wrong groups again around hints; right ones replace wrong ones.

        A group without a trace stays as it is. All ranks make the same number of denoising passes.
        """
        size, limit = self.settings.group_size, self.settings.rollout_batch_size
        groups = [
            q for q in wrong.nonzero().flatten().tolist() if batch.problems[q].trace_ids is not None
        ]
        passes = distributed.max_over_ranks(math.ceil(len(groups) * size / limit))
        metrics = {
            "hint/groups_without_trace": float(wrong.sum()) - len(groups),
            "hint/replaced": 0.0,
            "hint/correct_share": 0.0,
            "hint/ratio_mean": 0.0,
        }
        if passes == 0:
            return rollout, metrics
        # A rank without such a group keeps the others company with its first one.
        chosen = groups or [0]
        problems = [batch.problems[q] for q in chosen for _ in range(size)]
        hint_ids, ratios = self.draw_hints(batch.step, problems)
        hinted = self.generate(batch.step, problems, "hinted", hint_ids, passes)
        if not groups:
            return rollout, metrics
        rollout, replaced = inject(rollout, hinted, groups, self.settings.replace_fraction)
        return rollout, metrics | {
            "hint/replaced": float(replaced),
            "hint/correct_share": hinted.correct.float().mean().item(),
            "hint/ratio_mean": sum(ratios) / len(ratios),
        }

    def draw_hints(self, step: int, problems: list[EncodedProblem]) -> tuple[Tensor, list[float]]:
        """Hints [N, C] for N rows, each with its own eta and chunks."""
        settings, hints, ratios = self.settings, [], []
        length = settings.sampler.completion_length
        for row, encoded in enumerate(problems):
            seed = self.row_seed(step, encoded, row % settings.group_size, "hints")
            generator = torch.Generator().manual_seed(seed)
            ratio = draw_ratio(settings.ratio_low, settings.ratio_high, generator)
            ratios.append(ratio)
            if encoded.trace_ids is None:  # only a row that keeps ranks in step
                hints.append(torch.full((length,), FREE))
                continue
            hints.append(
                choose_hints(
                    encoded.trace_ids,
                    length,
                    ratio,
                    settings.chunk_min,
                    settings.chunk_max,
                    generator,
                    encoded.answer_span,
                )
            )
        return torch.stack(hints), ratios

    def loss_mask(self, rollout: Rollout, entropy: Tensor) -> Tensor:
        """Tokens [N, C] that count: live ones, and of the hints those that the filter keeps."""
        live = live_mask(rollout.completion_ids, self.backbone.eos_token_id)
        keep = self.settings.keep_fraction if self.settings.filter_hints else 1.0
        return entropy_filter(entropy, rollout.hint_mask, live, keep)

    def update(
        self,
        rollout: Rollout,
        inputs: MaskedInputs,
        old: TokenScores,
        reference: TokenScores | None,
        advantages: Tensor,
        loss_mask: Tensor,
    ) -> dict[str, float]:
        """One optimizer step on the clipped objective, in micro-batches."""
        settings, optimizer = self.settings, self.optimizers()
        optimizer.zero_grad()
        totals: dict[str, float] = {}
        for rows in self.micro_batches(len(advantages)):
            scores = token_scores(
                self.backbone,
                rollout.prompt_ids[rows],
                rollout.completion_ids[rows],
                inputs.rows(rows),
                rollout.prompt_mask[rows],
                counted=loss_mask[rows],
            )
            loss, stats = policy_loss(
                scores.logp,
                old.logp[rows],
                advantages[rows],
                loss_mask[rows],
                clip_low=settings.clip_low,
                clip_high=settings.clip_high,
                ratio=settings.ratio,
                ref_logp=None if reference is None else reference.logp[rows],
                beta=settings.beta,
                kl=settings.kl,
            )
            share = len(scores.logp) / len(advantages)
            self.manual_backward(loss * share)
            for name, value in (stats | {"loss": loss.detach()}).items():
                totals[f"policy/{name}"] = (
                    totals.get(f"policy/{name}", 0.0) + share * value.item()
                    if name != "ratio_max"
                    else max(totals.get("policy/ratio_max", 0.0), value.item())
                )
        norm = torch.nn.utils.clip_grad_norm_(
            self.backbone.parameters(), self.optimizer_settings.grad_norm
        )
        optimizer.step()
        self.lr_schedulers().step()
        full = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
        return totals | {"policy/grad_norm": full.item()}

    # ---- parts ------------------------------------------------------------------------------

    def row_seed(self, step: int, encoded: EncodedProblem, sample: int, purpose: str) -> int:
        """The seed of one row: nothing else decides its randomness."""
        return stable_seed(self.settings.seed, step, encoded.problem.id, sample, purpose)

    def micro_batches(self, rows: int) -> list[slice]:
        """Slices of `train_batch_size` rows."""
        size = self.settings.train_batch_size
        return [slice(start, start + size) for start in range(0, rows, size)]

    def generate(
        self,
        step: int,
        problems: list[EncodedProblem],
        purpose: str,
        hint_ids: Tensor | None = None,
        passes: int | None = None,
    ) -> Rollout:
        """Complete and grade rows, G for each problem in turn."""
        size = self.settings.group_size
        seeds = [self.row_seed(step, p, i % size, purpose) for i, p in enumerate(problems)]
        with self.phase("rollout"):
            completions = complete(
                self.backbone,
                problems,
                seeds,
                self.settings.sampler,
                self.device,
                self.settings.rollout_batch_size,
                hint_ids,
                passes,
                any_rank=distributed.lockstep(self.backbone),
            )
        with self.phase("grading"):
            texts, verdicts = self.grade(completions, [p.problem.gold for p in problems])
            rewards = combine_rewards(texts, verdicts, self.settings.reward_weights)
        return Rollout(
            prompt_ids=completions.prompt_ids,
            prompt_mask=completions.prompt_mask,
            completion_ids=completions.output.completion_ids,
            hint_mask=completions.output.hint_mask,
            correct=torch.tensor([v.correct for v in verdicts], device=self.device),
            rewards=torch.tensor(rewards, device=self.device),
            texts=texts,
            group_size=size,
        )

    def masked_inputs(
        self, batch: PromptBatch, rollout: Rollout, advantages: Tensor
    ) -> MaskedInputs:
        """The masks under which old, new and reference policy are all scored."""
        size = self.settings.group_size
        problems = [p for p in batch.problems for _ in range(size)]
        seeds = [self.row_seed(batch.step, p, i % size, "masks") for i, p in enumerate(problems)]
        return draw_masked_inputs(
            self.settings.likelihood,
            rollout.completion_ids,
            keys=row_keys(seeds, self.device),
            hint_mask=rollout.hint_mask,
            live_mask=live_mask(rollout.completion_ids, self.backbone.eos_token_id),
            prompt_mask=rollout.prompt_mask,
            advantages=advantages,
        )

    def score(self, model: PreTrainedModel, rollout: Rollout, inputs: MaskedInputs) -> TokenScores:
        """Log-probabilities and entropies of all rows, in micro-batches."""
        parts = [
            token_scores(
                model,
                rollout.prompt_ids[rows],
                rollout.completion_ids[rows],
                inputs.rows(rows),
                rollout.prompt_mask[rows],
                with_entropy=True,
            )
            for rows in self.micro_batches(len(rollout.completion_ids))
        ]
        return TokenScores(
            logp=torch.cat([p.logp for p in parts]), entropy=torch.cat([p.entropy for p in parts])
        )

    def report(
        self,
        batch: PromptBatch,
        rollout: Rollout,
        before: Tensor,
        old: TokenScores,
        loss_mask: Tensor,
        metrics: dict[str, float],
    ) -> None:
        """Log one line of metrics, means over ranks, and samples every few steps."""
        correct = rollout.grouped(rollout.correct)
        after = all_wrong(correct)
        live = live_mask(rollout.completion_ids, self.backbone.eos_token_id)
        eos = (rollout.completion_ids == self.backbone.eos_token_id).any(dim=1)
        metrics = metrics | {
            "reward/mean": rollout.rewards.float().mean().item(),
            "reward/accuracy": correct.float().mean().item(),
            "group/all_wrong_before": before.float().mean().item(),
            "group/all_wrong_after": after.float().mean().item(),
            "group/all_right": correct.all(dim=1).float().mean().item(),
            "rollout/length": live.sum(dim=1).float().mean().item(),
            "rollout/eos_rate": eos.float().mean().item(),
            "rollout/entropy": (old.entropy * live).sum().item() / max(1, int(live.sum())),
            "hint/tokens": float(rollout.hint_mask.sum()),
            "hint/tokens_kept": float((loss_mask & rollout.hint_mask).sum()),
            "policy/lr": self.optimizers().param_groups[0]["lr"],
        }
        metrics |= {f"time/{name}": seconds for name, seconds in self.seconds.items()}
        ranks = distributed.gather_objects(metrics)
        means = {name: sum(m[name] for m in ranks) / len(ranks) for name in metrics}
        for logger in self.loggers:
            logger.log_metrics(means, step=batch.step)
        shown = {"acc": means["reward/accuracy"], "all_wrong": means["group/all_wrong_before"]}
        self.log_dict(shown, prog_bar=True, logger=False, batch_size=len(rollout.texts))
        every = self.settings.log_samples_every
        if self.on_samples is not None and every and batch.step % every == 0:
            self.on_samples(batch.step, self.sample_records(batch, rollout))

    def sample_records(self, batch: PromptBatch, rollout: Rollout) -> list[dict[str, Any]]:
        """One JSON-ready record for each row, hints included."""
        size = self.settings.group_size
        return [
            {
                "step": batch.step,
                "id": batch.problems[row // size].problem.id,
                "sample": row % size,
                "question": batch.problems[row // size].problem.question,
                "answer": batch.problems[row // size].problem.answer,
                "completion": text,
                "correct": bool(rollout.correct[row]),
                "reward": float(rollout.rewards[row]),
                "hint": self.tokenizer.decode(
                    rollout.completion_ids[row][rollout.hint_mask[row]].tolist()
                ),
            }
            for row, text in enumerate(rollout.texts)
        ]

    # ---- checkpoints: the reference is what training started from, not state ------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave the frozen reference out: it is rebuilt from `model.path`."""
        state = checkpoint["state_dict"]
        for name in [name for name in state if name.startswith("reference.")]:
            del state[name]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Complete the loaded state with the reference that this run was built with."""
        if self.reference is not None:
            own = self.reference.state_dict(prefix="reference.")
            checkpoint["state_dict"].update(own)
