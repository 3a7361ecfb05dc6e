"""Before a run: what it will cost, for the chosen model and trainer. dry_run=true stops there."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from lightning.pytorch.utilities import rank_zero_only
from rich.console import Console
from rich.table import Table

from igpo_lightning.diffusion.block_canvas import check_attention
from igpo_lightning.diffusion.head_scores import CHUNK_ELEMENTS
from igpo_lightning.diffusion.token_choice import CHUNK, HEAD_CHUNK
from igpo_lightning.evaluation.measurements import measurements
from igpo_lightning.models.checkpoint import LARGEST_SHARD, shard_bytes
from igpo_lightning.models.memory import Plan, Workload, bytes_of, gathered_bytes, make_plan
from igpo_lightning.settings import EvalSuiteStage, RewriteStage, RLStage, Settings, SFTStage
from igpo_lightning.stages import build, cost
from igpo_lightning.stages.capacity import Capacity, capacity, misfits, size_text


def workload(config: Settings, vocab_size: int, block_size: int | None = None) -> Workload:
    """What the trainer does with the model, from the configuration."""
    stage, trainer = config.stage, config.trainer
    devices, on_gpu = trainer.world_size, trainer.accelerator == "gpu"
    rollout_rows, train_rows, train_length, checkpoints = 0, 0, None, 0
    evaluation_rows = 0
    if cost.evaluations(config):
        problems, known = cost.evaluation_problems(config)
        answers = -(-problems * config.eval.samples // devices)
        evaluation_rows = min(config.eval.batch_size, answers) if known else config.eval.batch_size
    if isinstance(stage, RLStage):
        rows = stage.prompts_per_step * stage.group_size // devices
        rollout_rows = min(stage.rollout_batch_size, rows)
        train_rows = min(stage.train_batch_size, rows)
        made = -(-stage.steps // stage.checkpoint_every)
        checkpoints = _kept(config, made, stage.eval_every > 0)
    elif isinstance(stage, SFTStage):
        train_rows = min(stage.train_batch_size, stage.batch_size // devices)
        train_length = stage.max_length
        made = -(-stage.steps // stage.checkpoint_every)
        checkpoints = _kept(config, made, stage.val_every <= stage.steps)
    elif stage.name == "generate":
        rollout_rows = 1
    reference = stage.name == "rl" and config.objective.beta > 0 and not config.model.lora.enabled
    compute_bytes = bytes_of(trainer.precision)
    if train_rows == 0 and trainer.precision == "32-true":
        compute_bytes = int(getattr(torch, config.model.dtype).itemsize)
    copies = 2 if config.sampler.cfg_scale else 1
    # RL scores over chunks of the vocabulary; SFT's loss holds logits, log-softmax and gradient.
    train_logits = 2 * CHUNK_ELEMENTS
    if stage.name == "sft":
        length = train_length or config.sampler.completion_length
        train_logits = 3 * train_rows * length * vocab_size
    # Beside a GPU the host is another machine's: there an export takes smaller shards if it must.
    shard = LARGEST_SHARD if on_gpu else shard_bytes()
    return Workload(
        prompt_length=config.prompt.max_length,
        completion_length=config.sampler.completion_length,
        rollout_rows=rollout_rows,
        train_rows=train_rows,
        devices=devices,
        sharded=trainer.strategy == "fsdp",
        compute_bytes=compute_bytes,
        reference_copy=reference,
        rollout_logits=_sampler_logits(config, rollout_rows * copies, vocab_size),
        evaluation_logits=_sampler_logits(config, evaluation_rows * copies, vocab_size),
        train_logits=train_logits,
        gather_rollouts=trainer.gather_rollouts,
        replicas=trainer.replicas,
        evaluation_rows=evaluation_rows,
        train_length=train_length,
        copies=copies,
        cached=config.sampler.cache != "none" or block_size is not None,
        offloaded=trainer.cpu_offload and on_gpu,
        on_gpu=on_gpu,
        local=trainer.devices,
        checkpoints=checkpoints,
        shard_bytes=shard if train_rows else 0,
        block_size=block_size,
    )


def _kept(config: Settings, made: int, with_best: bool) -> int:
    """Checkpoints on the disk at once: the newest, the best, and the one that is being written."""
    return min(made, config.trainer.keep_last + with_best) + 1


def _sampler_logits(config: Settings, rows: int, vocab_size: int) -> int:
    device = "cuda" if config.trainer.accelerator == "gpu" else "cpu"
    positions = rows * config.sampler.block_length
    return 2 * min(positions * vocab_size, HEAD_CHUNK[device]) + 4 * CHUNK[device]


def planned(config: Settings) -> tuple[Workload, Plan]:
    """The plan of a stage that runs a model, without a word."""
    model = build.build_backbone(config, device="meta")
    check_attention(model, config.sampler)
    work = workload(config, model.vocab_size, model.block_size)
    return work, make_plan(model, work, config.model.quantization)


_TOLD: set[str] = set()  # folders of the sweeps for which this process has printed a plan


def _told_in_this_sweep() -> bool:
    """Whether the process has printed the plan of an earlier run of the same sweep."""
    hydra = HydraConfig.get() if HydraConfig.initialized() else None
    if hydra is None or hydra.mode != RunMode.MULTIRUN:
        return False
    told = hydra.sweep.dir in _TOLD
    _TOLD.add(hydra.sweep.dir)
    return told


def announce(config: Settings) -> dict[str, Any]:
    """Print the plan of a run, on the first rank; returns its numbers."""
    if isinstance(config.stage, RewriteStage):
        return _announce_rewrite(config, config.stage)
    if isinstance(config.stage, EvalSuiteStage):
        return _announce_suite(config)
    work, plan = planned(config)
    flops = cost.run_flops(config, plan, work)
    there = capacity(config.trainer, _folder())
    why = misfits(plan, work, there)
    if _told_in_this_sweep() and not why and not config.dry_run:
        peak, total = size_text(plan.total), sum(flops.everywhere.values())
        _print(f"Plan as in the sweep's first run, with a peak of {peak} and {total:.3g} FLOPs")
    else:
        tests = [cost.evaluation_problems(config)] * (cost.evaluations(config) > 0)
        _show(config, work, plan)
        _show_cost(config, flops, tests)
        _show_verdict(there, why, config)
    return asdict(plan) | _numbers(config, flops, there, why)


def _announce_suite(config: Settings) -> dict[str, Any]:
    """All measurements one after the other: the largest one's memory, the sum of their FLOPs."""
    parts = [(part, *planned(part.config)) for part in measurements(config)]
    part, work, plan = max(parts, key=lambda entry: entry[2].total)
    flops = cost.RunFlops({}, {})
    for other, own_work, own_plan in parts:
        flops += cost.run_flops(other.config, own_plan, own_work)
    there = capacity(config.trainer, _folder())
    why = misfits(plan, work, there)
    _show(config, work, plan)
    if len(parts) > 1:
        _print(f"  {len(parts)} measurements; the memory is that of {part.name}")
    _show_cost(config, flops, [cost.evaluation_problems(other.config) for other, *_ in parts])
    _show_verdict(there, why, config)
    return asdict(plan) | _numbers(config, flops, there, why)


def _announce_rewrite(config: Settings, stage: RewriteStage) -> dict[str, Any]:
    """No model runs here: what is asked of the endpoint, where there is one."""
    rewriter = config.rewriter
    limits = [n for n in (stage.limit, config.data.limit) if n is not None]
    rows = min(limits, default=None)
    _print(f"Plan of stage=rewrite with rewriter={rewriter.kind}: no model runs on this machine")
    if rewriter.kind != "endpoint":
        return {"rows": rows}
    if rows is None:
        _print("  set stage.limit to see how much is asked of the endpoint")
        return {"rows": None}
    requests = rows * rewriter.attempts
    tokens = requests * rewriter.max_output_tokens
    _print(f"  at most {requests:,} requests and {tokens:,} tokens written, for {rows:,} traces")
    hours = None
    if rewriter.requests_per_minute is not None:
        hours = requests / rewriter.requests_per_minute / 60
        _print(
            f"  at most {_duration(hours)} at {rewriter.requests_per_minute:g} requests a minute"
        )
    return {"rows": rows, "requests": requests, "tokens": tokens, "hours": hours}


def _numbers(
    config: Settings, flops: cost.RunFlops, there: Capacity, why: list[str]
) -> dict[str, Any]:
    tflops = config.trainer.tflops
    return {
        "flops": flops.everywhere,
        "hours": None if tflops is None else flops.hours(tflops),
        "fits": False if why else None if there.device is None else True,
        "why": why,
    }


def _folder() -> Path:
    return build.run_folder() if HydraConfig.initialized() else Path.cwd()


@rank_zero_only
def _print(*parts: Any) -> None:
    console = Console(highlight=False, soft_wrap=True)
    for part in parts:
        console.print(part)


@rank_zero_only
def _show(config: Settings, work: Workload, plan: Plan) -> None:
    trainer, counts = config.trainer, plan.counts
    _print(
        f"Plan of stage={config.stage.name} with {config.model.path}: {work.devices} "
        f"{'process' if work.devices == 1 else 'processes'} on {trainer.accelerator}, "
        f"strategy={trainer.strategy}, precision={trainer.precision}",
        f"  parameters     {counts.parameters:,}, of which trained "
        f"{counts.trainable if work.train_rows else 0:,}"
        + (f"; a token meets {counts.active:,}" if counts.active < counts.parameters else ""),
        f"  FLOPs/token    {plan.forward_flops:.3g} forward"
        + (f", {plan.train_flops:.3g} forward and backward" if work.train_rows else "")
        + f" (canvas of {work.prompt_length} + {work.completion_length} tokens)",
    )
    rows = {
        "rollout": work.rollout_rows,
        "update": work.train_rows,
        "evaluation": work.evaluation_rows,
    }
    device = "GPU" if work.on_gpu else "process"
    _print(_table(f"memory of a {device}", plan.memory, "estimated peak", plan.total, rows))
    if work.sharded and work.rollout_rows:
        whole = size_text(gathered_bytes(counts, work))
        held = "of which" if work.gather_rollouts else "beside which"
        _print(
            f"  trainer.gather_rollouts={str(work.gather_rollouts).lower()}: the rollout needs "
            f"{size_text(plan.memory['rollout'])}, {held} all weights in whole "
            f"{'are' if work.gather_rollouts else 'would be'} {whole}"
        )
    if plan.host_total:
        node = f"memory of a node ({work.local} {'process' if work.local == 1 else 'processes'})"
        _print(_table(node, plan.host, "estimated peak", plan.host_total, {}))
    if plan.disk_total:
        kept = {"checkpoints": work.checkpoints}
        _print(_table("disk", plan.disk, "in all", plan.disk_total, kept))


def _table(
    title: str, sizes: dict[str, int], last: str, total: int, counts: dict[str, int]
) -> Table:
    table = Table(box=None, padding=(0, 2))
    table.add_column(title)
    table.add_column("", justify="right")
    for name, size in sizes.items():
        if size:
            number = counts.get(name, 0)
            unit = "" if name == "checkpoints" else " rows"
            table.add_row(f"{name} ({number}{unit})" if number else name, size_text(size))
    table.add_row(last, size_text(total))
    return table


def _show_cost(config: Settings, flops: cost.RunFlops, tests: list[tuple[int, bool]]) -> None:
    parts = {name: value for name, value in flops.everywhere.items() if value}
    total = sum(parts.values())
    if not total:
        return
    shares = ", ".join(f"{name} {value:.3g}" for name, value in parts.items())
    _print(f"  FLOPs of the run  {total:.3g}: {shares}")
    if "inpainting" in parts and config.inpaint.trigger != "always":
        _print(f"    {cost.ALL_WRONG:.0%} of the groups are assumed to get extra samples")
    if not all(known for _, known in tests):
        _print(f"    an evaluation is assumed to have {cost.PROBLEMS:,} problems; set eval.limit")
    if config.trainer.tflops is None:
        _print("  set trainer.tflops for the hours; stage=doctor measures it")
        return
    hours = flops.hours(config.trainer.tflops)
    split = ", ".join(f"{name} {_duration(hours[name])}" for name in parts)
    _print(
        f"  time at {config.trainer.tflops:g} TFLOP/s a process  "
        f"{_duration(sum(hours.values()))}: {split}"
    )


def _duration(hours: float) -> str:
    """Hours for people: in minutes or seconds where they are few."""
    if hours >= 1:
        return f"{hours:.1f} h"
    return f"{hours * 60:.1f} min" if hours * 60 >= 1 else f"{hours * 3600:.1f} s"


def _show_verdict(there: Capacity, why: list[str], config: Settings) -> None:
    for reason in why:
        _print(f"  does not fit, because {reason}")
    if why:
        return
    if there.device is None:
        what = "GPU" if config.trainer.accelerator == "gpu" else "memory size"
        _print(f"  no {what} is known here; set trainer.memory_gb to see whether the run fits")
        return
    place = "a GPU" if config.trainer.accelerator == "gpu" else "this machine"
    _print(f"  fits: {place} has {size_text(there.device)}")
