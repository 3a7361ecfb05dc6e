"""Processes: ranks that talk to each other, graders, and one step of RL in each way to train."""

import functools
import json
import math
import shutil
import time

from igpo_lightning.rewards.worker_pool import GradingPool
from igpo_lightning.runs.metrics_file import METRICS_FILE, column, read_metrics
from igpo_lightning.stages.checkup.finding import FAILED, OK, Check, Finding, Site

_CALL_SECONDS = 30.0
_RUN_SECONDS = 180.0
_KEPT = 8000  # characters of a failed command's output: a traceback and what came before
# Hints are whole traces, so that half of a group is right and the gradient is not zero.
_STEP = (
    *("experiment=tiny", "stage=rl", "stage.steps=1", "stage.group_size=2"),
    *("stage.inner_updates=1", "stage.eval_before=false", "stage.eval_after=false"),
    *("model.init=random", "inpaint.trigger=always", "inpaint.ratio=1"),
    *("inpaint.exclude_answer=false", "logger=[csv]", "resume=null"),
    # A grader that compares what things mean has a check of its own, and takes seconds to start.
    *("data.eval_size=8", "sampler.steps=6", "reward.grading=string"),
)
_SQUARE = "(x+1)^2"
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
        said = f"{backend}, rank {rank} of {world}: {_last_line(output)}"
        return Finding(FAILED, said, fix, output=output[-_KEPT:])
    speed = min(json.loads(output.strip().splitlines()[-1]) for _, output in done)
    said = f"{backend} between {world} ranks, sums at {speed / 1e9:.2f} GB/s"
    return Finding(OK, said, numbers={"bytes_per_second": speed, "ranks": float(world)})


def grader(site: Site) -> Finding:
    """Two grader processes start, and tell an equal answer from a wrong one."""
    reward = site.config.reward
    start = time.perf_counter()
    with GradingPool(workers=2, timeout=reward.timeout) as pool:
        verdicts = pool.grade(
            [(_SQUARE, rf"\boxed{{{answer}}}") for answer in ("x(x+2)+1", "x^2+1")]
        )
    seconds = time.perf_counter() - start
    said = f"two processes graded two answers {seconds:.1f} s after they were started"
    if [verdict.reason for verdict in verdicts] == [None, "wrong"]:
        return Finding(OK, said, numbers={"seconds": seconds})
    reasons = " and ".join(verdict.reason or "right" for verdict in verdicts)
    fix = "pip install 'math-verify[antlr4_9_3]'; leave 2 GiB of memory to every process"
    return Finding(FAILED, f"a right and a wrong answer for {_SQUARE} are {reasons}", fix)


def rl_step(site: Site, trainer: tuple[str, ...], ranks: int, more: tuple[str, ...]) -> Finding:
    """One step of RL on the embedded model, as its command line runs it."""
    folder = site.folder / "step"
    shutil.rmtree(folder, ignore_errors=True)
    command = [*_STEP, *trainer, *more, f"hydra.run.dir={folder}"]
    try:
        for rank, (status, output) in enumerate(site.launch(command, ranks, _RUN_SECONDS)):
            if status:
                shown = " ".join(["python -m igpo_lightning", *command])
                said = f"rank {rank}: {_last_line(output)}"
                return Finding(FAILED, said, f"run it by hand: {shown}", output=output[-_KEPT:])
        rows = read_metrics(folder / METRICS_FILE)
        loss, norm = (column(rows, f"policy/{name}")[1][-1] for name in ("loss", "grad_norm"))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    numbers = {"loss": loss, "grad_norm": norm}
    if not (math.isfinite(loss) and math.isfinite(norm) and norm > 0):
        fix = "run the logits check; set trainer.precision=32-true"
        return Finding(FAILED, f"loss {loss}, gradient norm {norm}", fix, numbers)
    return Finding(OK, f"gradient norm {norm:.4f}", numbers=numbers)


def steps(on_gpu: bool, gpus: int) -> dict[str, Check]:
    """A check for each way to train, with all weights and with adapters."""
    world = gpus if on_gpu else 2
    prompts = f"stage.prompts_per_step={2 * world}"
    several: tuple[str, ...] = (f"trainer.devices={world}", prompts)
    alone: tuple[str, ...] = ("trainer=gpu", prompts)
    if not on_gpu:
        several += ("trainer.accelerator=cpu", "trainer.precision=32-true", "trainer.threads=1")
        alone = ("trainer=cpu", "trainer.threads=1", prompts)
    ways: dict[str, tuple[tuple[str, ...], int]] = {"gpu" if on_gpu else "cpu": (alone, 1)}
    ways |= {name: ((f"trainer={name}", *several), world) for name in ("ddp", "fsdp")}
    return {
        f"RL step, {name}{label}": functools.partial(rl_step, trainer=way, ranks=ranks, more=more)
        for name, (way, ranks) in ways.items()
        for label, more in (("", ()), (", LoRA", LORA))
    }
