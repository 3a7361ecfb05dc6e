"""Before a run: what it will cost, for the chosen model and trainer. dry_run=true stops there."""

from dataclasses import asdict
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_only
from rich.console import Console
from rich.table import Table

from igpo_lightning.diffusion.head_scores import CHUNK_ELEMENTS
from igpo_lightning.diffusion.token_choice import CHUNK, HEAD_CHUNK
from igpo_lightning.models.plan import Plan, Workload, bytes_of, gathered_bytes, make_plan
from igpo_lightning.settings import RLStage, Settings, SFTStage
from igpo_lightning.stages import build

GIB = 2**30


def workload(config: Settings, vocab_size: int) -> Workload:
    """What the trainer does with the model, from the configuration."""
    stage, trainer = config.stage, config.trainer
    devices = trainer.world_size
    rollout_rows, train_rows = 1, 0  # stage=generate
    if isinstance(stage, RLStage):
        rows = stage.prompts_per_step // devices * stage.group_size
        rollout_rows = min(stage.rollout_batch_size, rows)
        train_rows = min(stage.train_batch_size, rows)
    elif isinstance(stage, SFTStage):
        rollout_rows = config.eval.batch_size if stage.eval_after else 0
        train_rows = min(stage.train_batch_size, stage.batch_size // devices)
    elif stage.name == "eval":
        rollout_rows = config.eval.batch_size
    reference = stage.name == "rl" and config.objective.beta > 0 and not config.model.lora.enabled
    compute_bytes = bytes_of(trainer.precision)
    if train_rows == 0 and trainer.precision == "32-true":
        compute_bytes = int(getattr(torch, config.model.dtype).itemsize)
    device = "cuda" if trainer.accelerator == "gpu" else "cpu"
    positions = rollout_rows * config.sampler.block_length
    # RL scores over chunks of the vocabulary; SFT's loss holds logits, log-softmax and gradient.
    train_logits = 2 * CHUNK_ELEMENTS
    if stage.name == "sft":
        train_logits = 3 * train_rows * config.sampler.completion_length * vocab_size
    return Workload(
        prompt_length=config.prompt.max_length,
        completion_length=config.sampler.completion_length,
        rollout_rows=rollout_rows,
        train_rows=train_rows,
        devices=devices,
        sharded=trainer.strategy == "fsdp",
        compute_bytes=compute_bytes,
        reference_copy=reference,
        rollout_logits=2 * min(positions * vocab_size, HEAD_CHUNK[device]) + 4 * CHUNK[device],
        train_logits=train_logits,
        gather_rollouts=trainer.gather_rollouts,
        replicas=trainer.replicas,
    )


def announce(config: Settings) -> dict[str, Any]:
    """Print the plan of a run, on the first rank; returns its numbers."""
    model = build.build_backbone(config, device="meta")
    work = workload(config, model.vocab_size)
    plan = make_plan(model, work, config.model.quantization)
    _show(config, work, plan)
    return asdict(plan)


@rank_zero_only
def _show(config: Settings, work: Workload, plan: Plan) -> None:
    trainer, counts = config.trainer, plan.counts
    console = Console(highlight=False, soft_wrap=True)
    console.print(
        f"Plan of stage={config.stage.name} with {config.model.path}: {work.devices} "
        f"{'process' if work.devices == 1 else 'processes'} on {trainer.accelerator}, "
        f"strategy={trainer.strategy}, precision={trainer.precision}"
    )
    console.print(
        f"  parameters     {counts.parameters:,}, of which trained "
        f"{counts.trainable if work.train_rows else 0:,}"
        + (f"; a token meets {counts.active:,}" if counts.active < counts.parameters else "")
    )
    console.print(
        f"  FLOPs a token  {plan.forward_flops:.3g} forward"
        + (f", {plan.train_flops:.3g} forward and backward" if work.train_rows else "")
        + f" (canvas of {work.prompt_length} + {work.completion_length} tokens)"
    )
    table = Table(box=None, padding=(0, 2))
    table.add_column("memory of a " + ("GPU" if trainer.accelerator == "gpu" else "process"))
    table.add_column("GiB", justify="right")
    rows = {"rollout": work.rollout_rows, "update": work.train_rows}
    for name, size in plan.memory.items():
        if size:
            label = f"{name} ({rows[name]} rows)" if name in rows else name
            table.add_row(label, f"{size / GIB:.2f}")
    table.add_row("estimated peak", f"{plan.total / GIB:.2f}")
    console.print(table)
    if work.sharded and work.rollout_rows:
        whole = gathered_bytes(counts, work) / GIB
        held = "of which" if work.gather_rollouts else "beside which"
        console.print(
            f"  trainer.gather_rollouts={str(work.gather_rollouts).lower()}: the rollout needs "
            f"{plan.memory['rollout'] / GIB:.2f} GiB, {held} all weights in whole "
            f"{'are' if work.gather_rollouts else 'would be'} {whole:.2f} GiB"
        )
