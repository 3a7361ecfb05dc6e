"""Several processes that talk to each other, and one step of RL in each way to train."""

import csv
import functools
import json
import math
import shutil
from pathlib import Path

from igpo_lightning.stages.checkup.finding import FAILED, OK, Check, Finding, Site

_CALL_SECONDS = 30.0
_RUN_SECONDS = 180.0
_STEP = (
    *("experiment=tiny", "stage=rl", "stage.steps=1", "stage.prompts_per_step=2"),
    *("stage.group_size=2", "stage.inner_updates=1", "stage.eval_before=false"),
    *("stage.eval_after=false", "inpaint.trigger=always", "logger=[csv]", "resume=null"),
    *("data.train_size=8", "data.eval_size=8", "sampler.completion_length=32"),
    *("sampler.block_length=16", "sampler.steps=8"),
)
LORA = ("model.lora.enabled=true", "model.lora.rank=4")


def _last_line(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    named = [line for line in lines if line.startswith("error:") or "Error" in line]
    return (named or lines or ["no output"])[-1][:300]


def connection(site: Site) -> Finding:
    """Collective calls between all local ranks: NCCL between GPUs, gloo between two processes."""
    backend, world = ("nccl", max(1, site.gpus)) if site.on_gpu else ("gloo", 2)
    meeting = site.folder / f"meeting_{backend}"
    meeting.unlink(missing_ok=True)
    module = "igpo_lightning.distributed.exchange"
    command = [site.python, "-m", module]
    done = site.finish(
        [
            [*command, str(rank), str(world), backend, str(meeting), str(_CALL_SECONDS)]
            for rank in range(world)
        ],
        2 * _CALL_SECONDS,
    )
    meeting.unlink(missing_ok=True)
    broken = {rank: output for rank, (status, output) in enumerate(done) if status}
    if broken:
        rank, output = next(iter(broken.items()))
        fix = (
            "set NCCL_DEBUG=INFO to see the transport; try NCCL_P2P_DISABLE=1, NCCL_IB_DISABLE=1"
            if site.on_gpu
            else "set GLOO_SOCKET_IFNAME=lo, and let processes connect to 127.0.0.1"
        )
        return Finding(FAILED, f"{backend}, rank {rank} of {world}: {_last_line(output)}", fix)
    speed = min(json.loads(output.strip().splitlines()[-1]) for _, output in done)
    said = f"{backend} between {world} ranks, sums at {speed / 1e9:.2f} GB/s"
    return Finding(OK, said, numbers={"bytes_per_second": speed, "ranks": float(world)})


def _loss(folder: Path) -> float:
    """The loss that a run logged."""
    with (folder / "metrics.csv").open(newline="") as file:
        values = [row["policy/loss"] for row in csv.DictReader(file) if row.get("policy/loss")]
    return float(values[-1])


def rl_step(site: Site, trainer: tuple[str, ...], more: tuple[str, ...]) -> Finding:
    """One step of RL on the embedded model, as its command line runs it."""
    folder = site.folder / "step"
    shutil.rmtree(folder, ignore_errors=True)
    command = ["-m", "igpo_lightning", *_STEP, *trainer, *more, f"hydra.run.dir={folder}"]
    try:
        ((status, output),) = site.finish([[site.python, *command]], _RUN_SECONDS)
        if status:
            shown = " ".join(["python", *command])
            return Finding(FAILED, _last_line(output), f"run it by hand: {shown}")
        loss = _loss(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if not math.isfinite(loss):
        fix = "run the logits check; set trainer.precision=32-true"
        return Finding(FAILED, f"the loss is {loss}", fix)
    return Finding(OK, f"loss {loss:.4f}", numbers={"loss": loss})


def steps(on_gpu: bool, gpus: int) -> dict[str, Check]:
    """A check for each way to train, with all weights and with adapters."""
    several: tuple[str, ...]
    ways: dict[str, tuple[str, ...]]
    if on_gpu:
        several = (f"trainer.devices={gpus}", f"stage.prompts_per_step={2 * gpus}")
        ways = {"gpu": ("trainer=gpu",)}
    else:
        several = ("trainer.accelerator=cpu", "trainer.precision=32-true", "trainer.devices=2")
        several = (*several, "trainer.threads=1")
        ways = {"cpu": ("trainer=cpu", "trainer.threads=1")}
    ways |= {name: (f"trainer={name}", *several) for name in ("ddp", "fsdp")}
    return {
        f"RL step, {name}{label}": functools.partial(rl_step, trainer=way, more=more)
        for name, way in ways.items()
        for label, more in (("", ()), (", LoRA", LORA))
    }
