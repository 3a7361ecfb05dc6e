"""Where the time of an RL step goes: the share of each phase, and what is no work of the model.

`python benchmarks/rl_step.py` runs the command line itself (metrics, samples, checkpoints and all)
on the embedded model at the defaults of `stage=rl`, with clocks around its phases. The first step
is left out: it starts the graders and the allocator. *Model* is the backbone's body and head,
forward and backward; everything else is overhead. Other runs by overrides:
`python benchmarks/rl_step.py data=gsm8k inpaint=none`; `--against` measures a second run with
further overrides, and prints how many times less each phase of it takes. `--width`, `--layers` and
`--vocabulary` take a model of random weights in place of the embedded one. Writes JSON.
"""

import argparse
import csv
import functools
import json
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import psutil
import torch

from igpo_lightning import cli
from igpo_lightning.diffusion import likelihood
from igpo_lightning.evaluation.grade import Grading
from igpo_lightning.models import load_tokenizer, save_export
from igpo_lightning.models.transformer import NativeBackbone
from igpo_lightning.rl import sampler
from igpo_lightning.rl.inpainter import Inpainter
from igpo_lightning.rl.module import RLModule
from igpo_lightning.rl.sampler import GroupSampler
from igpo_lightning.rl.scorer import Scorer
from igpo_lightning.runs.checkpoints import RunCheckpoints
from igpo_lightning.stages.checkup.speed import CPU_SIZE, Size, middle_model

OUTPUT = Path("runs/benchmarks/rl_step.json")
CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}
REST = "rest: data, Lightning"
# Of a step: forward passes of the body, and tokens that went through it (a backward pass is two).
COUNTS = ("passes/rollout", "passes/update", "compute/rollout", "compute/update")
PHASES = (
    *("sampling", "rewards", "hint selection", "inpainting", "likelihoods", "update"),
    *("metrics and samples", "checkpoints", REST),
)


class Phases:
    """Books time on the innermost phase that is running, apart for the model and for the rest."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.running = [(REST, False)]  # phase, within the model
        self.seconds: dict[tuple[str, bool], float] = defaultdict(float)
        self.since = clock()

    def book(self) -> None:
        """Give the time since the last call to what is running."""
        now = self.clock()
        self.seconds[self.running[-1]] += now - self.since
        self.since = now

    def reset(self) -> None:
        """Forget what was booked."""
        self.seconds.clear()
        self.since = self.clock()

    def watch(self, owner: Any, name: str, phase: Callable[..., str] | str | None = None) -> None:
        """Book calls of `owner.name` on a phase; None: on the model, in whatever phase calls it."""
        original = getattr(owner, name)

        @functools.wraps(original)
        def watched(*args: Any, **kwargs: Any) -> Any:
            self.book()
            entered = phase(*args, **kwargs) if callable(phase) else phase
            here = (self.running[-1][0], True) if entered is None else (entered, False)
            self.running.append(here)
            try:
                return original(*args, **kwargs)
            finally:
                self.book()
                self.running.pop()

        setattr(owner, name, watched)


def graders_seconds() -> float:
    """Processor time of this process's children so far."""
    times = [child.cpu_times() for child in psutil.Process().children(recursive=True)]
    return sum(t.user + t.system for t in times)


def watch_all(phases: Phases) -> None:
    """Put clocks around the parts of Algorithm 1 and around the model."""

    def sampled(_: Any, __: Any, ___: Any, purpose: str, *____: Any, **_____: Any) -> str:
        return "sampling" if purpose == "rollout" else "inpainting"

    phases.watch(GroupSampler, "sample", sampled)
    phases.watch(Grading, "start", "rewards")
    phases.watch(Grading, "finish", "rewards")
    phases.watch(sampler, "reward_parts", "rewards")
    phases.watch(Inpainter, "draw_hints", "hint selection")
    phases.watch(Scorer, "experience", "likelihoods")
    phases.watch(RLModule, "update", "update")
    phases.watch(RLModule, "report", "metrics and samples")
    phases.watch(RunCheckpoints, "save", "checkpoints")
    for name in ("encode", "project"):
        phases.watch(NativeBackbone, name)
    for name in ("linear_head_scores", "any_head_scores"):
        phases.watch(likelihood, name)
    phases.watch(RLModule, "manual_backward")


@dataclass(frozen=True)
class Measured:
    """A run: `phases` are seconds a step in the model and outside of it, `counts` are `COUNTS`."""

    overrides: list[str]
    phases: dict[str, dict[str, float]]
    counts: dict[str, float]

    def seconds(self, phase: str) -> float:
        """Of a step."""
        return sum(self.phases[phase].values())

    @property
    def total(self) -> float:
        """Seconds of a step."""
        return sum(self.seconds(phase) for phase in self.phases)

    @property
    def overhead(self) -> float:
        """Share of a step outside the model."""
        return sum(spent["other"] for spent in self.phases.values()) / self.total


def save_random(folder: Path, size: Size) -> None:
    """A model of random weights with the embedded tokenizer, which names the first ids alone."""
    save_export(middle_model(size, torch.device("cpu")), load_tokenizer("tiny"), folder)


def counted(metrics: Path, steps: int) -> dict[str, float]:
    """Means of `COUNTS` over the measured steps."""
    with metrics.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row[COUNTS[0]]][1 : steps + 1]
    return {name: sum(float(row[name]) for row in rows) / len(rows) for name in COUNTS}


def measure(overrides: list[str], steps: int, clock: str, size: Size | None = None) -> Measured:
    """Run the command line with clocks around its parts, once a process."""
    phases = Phases(CLOCKS[clock])
    watch_all(phases)
    begun, graders = 0, 0.0
    result: dict[str, dict[str, float]] = {}
    original = RLModule.training_step

    def training_step(self: RLModule, batch: Any, batch_idx: int) -> None:
        nonlocal begun, graders
        begun += 1
        if begun == 2:  # from here to the same place `steps` later
            graders = graders_seconds()
            phases.reset()
        if begun == steps + 2:
            phases.book()
            for phase in PHASES:
                spent = {
                    "model": phases.seconds[phase, True] / steps,
                    "other": phases.seconds[phase, False] / steps,
                }
                if phase == "rewards" and clock == "processor":  # which does not see them wait
                    spent["other"] += (graders_seconds() - graders) / steps
                result[phase] = spent
        original(self, batch, batch_idx)

    RLModule.training_step = training_step  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as folder:
        asked = [f"stage.steps={steps + 2}", f"hydra.run.dir={folder}/run", *overrides]
        if size is not None:
            save_random(Path(folder) / "model", size)
            asked.append(f"model.path={folder}/model")
        # The evaluation before the first step starts the graders, which takes seconds, once a run.
        evaluations = ("eval.limit=16", "stage.eval_after=false", "stage.eval_every=0")
        sys.argv = ["igpo-lightning", "stage=rl", *evaluations, *asked]
        cli.main()
        return Measured(overrides, result, counted(Path(folder) / "run" / "metrics.csv", steps))


def print_run(run: Measured) -> None:
    """The phases of a step as a table, and its counts."""
    print(f"\n{' '.join(run.overrides)}: {run.total:.2f} s a step\n")
    print("| phase | s a step | share | of which outside the model |")
    print("|---|---|---|---|")
    for phase, spent in run.phases.items():
        shares = (run.seconds(phase) / run.total, spent["other"] / run.total)
        print(f"| {phase} | {run.seconds(phase):.3f} | {shares[0]:.1%} | {shares[1]:.1%} |")
    print(f"| all | {run.total:.3f} | 100 % | {run.overhead:.1%} |\n")
    for name, count in run.counts.items():
        print(f"{name}: {count:,.0f} a step")


def print_ratios(first: Measured, second: Measured) -> None:
    """How many times less the second run takes, by phase and by count."""
    print("\n| a step | first run | second run | ratio |\n|---|---|---|---|")
    rows = [(f"{phase}, s", first.seconds(phase), second.seconds(phase)) for phase in PHASES]
    rows += [("all, s", first.total, second.total)]
    rows += [(name, first.counts[name], second.counts[name]) for name in COUNTS]
    for name, one, other in rows:
        ratio = f"{one / other:.1f}" if other else "-"
        print(f"| {name} | {one:,.4g} | {other:,.4g} | {ratio} |")


def main() -> None:
    """Measure one run or two, print their tables, and write them as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("overrides", nargs="*", help="of the configuration")
    parser.add_argument("--against", nargs="+", default=[], help="further overrides, second run")
    parser.add_argument("--steps", type=int, default=10, help="measured steps (one checkpoint)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--clock", choices=CLOCKS, default="wall", help="processor: on a machine shared with others"
    )
    parser.add_argument(
        "--width", type=int, help="channels of a model of random weights, 64 a head"
    )
    parser.add_argument("--layers", type=int, default=CPU_SIZE.layers, help="its layers")
    parser.add_argument("--vocabulary", type=int, default=CPU_SIZE.vocab, help="its vocabulary")
    parser.add_argument("--json", type=Path, default=OUTPUT, help="file to write")
    arguments = parser.parse_args()
    size = None
    if arguments.width is not None:
        sizes = {"width": arguments.width, "layers": arguments.layers}
        size = replace(CPU_SIZE, **sizes, vocab=arguments.vocabulary)
    runs = []
    for further in ([], arguments.against) if arguments.against else ([],):
        overrides = [*arguments.overrides, *further]
        asked = [*overrides, f"trainer.threads={arguments.threads}"]
        with ProcessPoolExecutor(1, get_context("spawn")) as fresh:  # the clocks stay in a process
            run = fresh.submit(measure, asked, arguments.steps, arguments.clock, size).result()
        print_run(run)
        runs.append(run)
    if arguments.against:
        print_ratios(*runs)
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    report = {**vars(arguments), "json": None, **asdict(runs[0]), "overhead": runs[0].overhead}
    report["second"] = asdict(runs[1]) if arguments.against else None
    arguments.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
