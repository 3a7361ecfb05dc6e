"""What this machine has, and whether a plan fits into it."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import torch

from igpo_lightning.models.cpu_memory import available_bytes
from igpo_lightning.models.memory import PHASES, Plan, Workload
from igpo_lightning.settings import TrainerConfig

GIB = 2**30
LIBRARY = GIB  # bytes of a GPU that CUDA and its libraries take for themselves
_FIXES = {
    "rollout": "lower stage.rollout_batch_size",
    "update": "lower stage.train_batch_size, or set model.gradient_checkpointing=true",
    "evaluation": "lower eval.batch_size",
    "checkpoint": "train fewer weights with model.lora.enabled=true",
    "export": "export on a machine with more memory (stage=export)",
    "loading": "use fewer processes a node (trainer.devices)",
}
_STANDING = "train fewer weights with model.lora.enabled=true, or share them with trainer=fsdp"


def size_text(size: float) -> str:
    """Bytes for people: GiB, or a smaller unit where GiB would round to nothing."""
    for unit, power in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if size >= 0.01 * 2**power:
            return f"{size / 2**power:.2f} {unit}"
    return f"{size:.0f} B"


@dataclass(frozen=True)
class Capacity:
    """Bytes that there are; None where nobody knows.

    Attributes:
        device: Of a GPU; on CPUs, of a node.
        host: Of a node's own memory, free.
        disk: Free where the run's folder is.
    """

    device: int | None
    host: int | None
    disk: int | None


def capacity(trainer: TrainerConfig, folder: Path) -> Capacity:
    """Of this machine, with `trainer.memory_gb` before what is found."""
    host, on_gpu = available_bytes(), trainer.accelerator == "gpu"
    device = host
    if on_gpu:
        count = min(torch.cuda.device_count(), trainer.devices)
        sizes = [torch.cuda.get_device_properties(i).total_memory for i in range(count)]
        device = min(sizes, default=None)
        # Where the GPUs are elsewhere, this machine's memory and disk are not theirs.
        host = None if device is None else host
    if trainer.memory_gb is not None:
        device = int(trainer.memory_gb * GIB)
    there = next((place for place in (folder, *folder.parents) if place.exists()), None)
    free = None if there is None or (on_gpu and host is None) else shutil.disk_usage(there).free
    return Capacity(device, host, free)


def misfits(plan: Plan, work: Workload, there: Capacity) -> list[str]:
    """Why a plan does not fit, each with what to do; empty where nothing speaks against it."""
    found = []
    needed = plan.total + LIBRARY if work.on_gpu else work.local * plan.total
    if there.device is not None and needed > there.device:
        where = "a GPU" if work.on_gpu else f"{work.local} process(es) of a node"
        reason, fix = _largest(plan)
        found.append(
            f"{where} need {size_text(needed)} of {size_text(there.device)}, most of it for "
            f"{reason}: {fix}"
        )
    if there.host is not None and plan.host_total > there.host:
        largest = max(plan.host, key=lambda name: plan.host[name])
        fix = _FIXES.get(largest, "set trainer.cpu_offload=false")
        found.append(
            f"the node's own memory needs {size_text(plan.host_total)} of {size_text(there.host)} "
            f"for {largest}: {fix}"
        )
    if there.disk is not None and plan.disk_total > there.disk:
        found.append(
            f"the run's folder needs {size_text(plan.disk_total)} of {size_text(there.disk)} free "
            "on the disk: lower trainer.keep_last, or choose another hydra.run.dir"
        )
    return found


def _largest(plan: Plan) -> tuple[str, str]:
    """What takes most of a device, and what lowers it."""
    if plan.total == plan.memory.get("loading", 0):
        return "loading", _FIXES["loading"]
    phase = max(PHASES, key=lambda name: plan.memory[name])
    standing = plan.total - plan.memory[phase]
    if standing > plan.memory[phase]:
        return "weights, gradients and optimizer states", _STANDING
    return f"the {phase}", _FIXES[phase]
