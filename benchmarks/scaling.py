"""Memory and step time of IGPO with LLaDA-8B on 1, 8 and 64 GPUs: a model, not a measurement.

`python benchmarks/scaling.py` prints the tables of docs/scaling.md. Memory is the plan's that
`dry_run=true` prints. Time is the plan's FLOPs over an assumed speed, and the bytes that FSDP moves
over an assumed bandwidth; both assumptions are options. `--check FILE` holds the model against
shares that `benchmarks/rl_step.py` measured on the embedded model. Writes JSON.
"""

import argparse
import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from igpo_lightning import compose
from igpo_lightning.models.memory import Plan, Workload
from igpo_lightning.models.plan import Counts
from igpo_lightning.settings import RLStage, Settings
from igpo_lightning.stages import plan as plan_stage
from igpo_lightning.stages.cost import step_flops

OUTPUT = Path("runs/benchmarks/scaling.json")
RECIPE = ("experiment=igpo_paper", "model=llada_8b", "data=metamathqa")
LORA = "LoRA"
FULL = "full"
WEIGHTS = {LORA: (), FULL: ("model.lora.enabled=false", "model.dtype=float32")}
TRAINERS = {
    (LORA, 1): ("trainer=gpu",),
    (LORA, 8): ("trainer=ddp",),
    (LORA, 64): ("trainer=ddp", "trainer.num_nodes=8"),
    (FULL, 1): ("trainer=fsdp", "trainer.devices=1"),
    (FULL, 8): ("trainer=fsdp", "trainer.gather_rollouts=true"),
    (FULL, 64): (
        *("trainer=fsdp", "trainer.gather_rollouts=true"),
        *("trainer.num_nodes=8", "trainer.replicas=8"),
    ),
}


@dataclass(frozen=True)
class Assumed:
    """What is not known before a run on real GPUs, and stands for it.

    Attributes:
        flops: Dense bfloat16 FLOP/s of a GPU (the data sheet's of an H100 SXM: 9.89e14).
        utilisation: Share of them that passes reach.
        node_bandwidth: Bytes a second and GPU within a node (NVLink 4, one direction: 4.5e11).
        net_bandwidth: Bytes a second and GPU between nodes (400 Gb/s a GPU: 5e10).
        all_wrong: Share of groups that are sampled again.
    """

    flops: float
    utilisation: float
    node_bandwidth: float
    net_bandwidth: float
    all_wrong: float


@dataclass(frozen=True)
class StepTime:
    """Seconds of a step on the slowest GPU, by phase; `inpainting_mean` is an average GPU's."""

    sampling: float
    inpainting: float
    inpainting_mean: float
    likelihoods: float
    update: float
    exchange: float

    @property
    def total(self) -> float:
        """Of the step: every GPU waits for the slowest."""
        return self.sampling + self.inpainting + self.likelihoods + self.update + self.exchange

    @property
    def idle(self) -> float:
        """Share of the step in which an average GPU waits for those with one extra row more."""
        return max(0.0, self.inpainting - self.inpainting_mean) / self.total  # rounding, below 0


def exchange_bytes(config: Any, work: Workload, counts: Counts, rows: int) -> float:
    """Bytes that a GPU receives in a step; the ring's (n - 1) / n is taken as 1.

    FSDP gathers the weights in bfloat16 for sampling (twice, with the extra samples), and in every
    forward and again in every backward pass; gradients are reduced in float32, once a backward
    pass. DDP reduces the gradients of what is trained, there and back.
    """
    micro_batches = config.stage.inner_updates * math.ceil(rows / work.train_rows)
    if work.devices == 1:
        return 0.0
    if not work.sharded:
        return 2.0 * micro_batches * counts.trainable * 4
    scored = 2 * math.ceil(rows / work.train_rows)
    gathers = 2 + scored + 2 * micro_batches
    return counts.parameters * (gathers * 2.0 + micro_batches * 4.0)


def step_time(config: Settings, work: Workload, plan: Plan, assumed: Assumed) -> StepTime:
    """Seconds of each phase from the plan's FLOPs."""
    stage = config.stage
    assert isinstance(stage, RLStage)
    speed = assumed.flops * assumed.utilisation
    flops = step_flops(config, stage, plan, work, assumed.all_wrong)
    rows = stage.prompts_per_step * stage.group_size // work.devices
    # What leaves a node is slower, and what stays within it hides behind it.
    bandwidth = assumed.net_bandwidth if config.trainer.num_nodes > 1 else assumed.node_bandwidth
    if work.replicas > 1:  # only gradients leave the node, once they are reduced within it
        bandwidth = assumed.node_bandwidth
    return StepTime(
        **{name: value / speed for name, value in asdict(flops).items()},
        exchange=exchange_bytes(config, work, plan.counts, rows) / bandwidth,
    )


def planned(*overrides: str) -> tuple[Settings, Workload, Plan]:
    """Configuration and plan of a run."""
    config = compose([*overrides, "logger=[]", "dry_run=true"])
    return config, *plan_stage.planned(config)


def rows_of(assumed: Assumed, extra: tuple[str, ...]) -> list[dict[str, Any]]:
    """One row for each way of training and number of GPUs."""
    rows = []
    for (weights, gpus), trainer in TRAINERS.items():
        config, work, plan = planned(*RECIPE, *WEIGHTS[weights], *trainer, *extra)
        time = step_time(config, work, plan, assumed)
        rows.append(
            {
                "weights": weights,
                "gpus": gpus,
                "memory": {name: size / 2**30 for name, size in plan.memory.items()},
                "peak": plan.total / 2**30,
                "time": asdict(time) | {"total": time.total, "idle": time.idle},
            }
        )
    return rows


def print_table(
    title: str, rows: list[dict[str, Any]], columns: dict[str, Callable[..., str]]
) -> None:
    """A table in Markdown."""
    print(f"\n{title}\n")
    print("| " + " | ".join(["weights", "GPUs", *columns]) + " |")
    print("|---" * (len(columns) + 2) + "|")
    for row in rows:
        cells = [column(row) for column in columns.values()]
        print("| " + " | ".join([row["weights"], str(row["gpus"]), *cells]) + " |")


def memory_columns() -> dict[str, Callable[..., str]]:
    """GiB a GPU."""

    def part(*names: str) -> Callable[..., str]:
        return lambda row: f"{sum(row['memory'][name] for name in names):.1f}"

    return {
        "weights": part("weights", "gathered blocks"),
        "reference": part("reference copy"),
        "gradients, AdamW": part("gradients", "AdamW states"),
        "rollout": part("rollout"),
        "update": part("update"),
        "evaluation": part("evaluation"),
        "peak": lambda row: f"{row['peak']:.1f}",
    }


def time_columns() -> dict[str, Callable[..., str]]:
    """Seconds a step."""

    def seconds(name: str) -> Callable[..., str]:
        return lambda row: f"{row['time'][name]:.0f}"

    names = ("sampling", "inpainting", "likelihoods", "update", "exchange", "total")
    return {name: seconds(name) for name in names} | {
        "waiting": lambda row: f"{row['time']['idle']:.0%}"
    }


def check(file: Path) -> None:
    """Print shares of the model's time: as measured on the CPU, and as the FLOPs say."""
    measured = json.loads(file.read_text())
    config, work, plan = planned("stage=rl", *measured["overrides"])
    names = ("sampling", "likelihoods", "update")
    seconds = {name: measured["phases"][name]["model"] for name in names}
    time = asdict(step_time(config, work, plan, Assumed(1.0, 1.0, 1.0, 1.0, 0.0)))
    print("\n| phase | share of the model's time, measured | by FLOPs |\n|---|---|---|")
    for name in names:
        shares = [part[name] / sum(part[n] for n in names) for part in (seconds, time)]
        print(f"| {name} | {shares[0]:.0%} | {shares[1]:.0%} |")


def main() -> None:
    """Print the tables, and write them as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("overrides", nargs="*", help="of the configuration")
    parser.add_argument("--flops", type=float, default=9.89e14, help="bfloat16, of a GPU")
    parser.add_argument("--utilisation", type=float, default=0.4, help="share of them")
    parser.add_argument("--node-bandwidth", type=float, default=4.5e11, help="bytes a second")
    parser.add_argument("--net-bandwidth", type=float, default=5e10, help="bytes a second")
    parser.add_argument("--all-wrong", type=float, default=0.3, help="share of groups")
    parser.add_argument("--check", type=Path, help="what benchmarks/rl_step.py wrote")
    parser.add_argument("--json", type=Path, default=OUTPUT, help="file to write")
    arguments = parser.parse_args()
    if arguments.check is not None:
        check(arguments.check)
        return
    assumed = Assumed(
        arguments.flops,
        arguments.utilisation,
        arguments.node_bandwidth,
        arguments.net_bandwidth,
        arguments.all_wrong,
    )
    exact = rows_of(assumed, tuple(arguments.overrides))
    cached = rows_of(assumed, (*arguments.overrides, "sampler.cache=dual"))
    print(f"Assumed: {assumed}")
    print_table("GiB a GPU", exact, memory_columns())
    print_table("Seconds a step, exact sampler", exact, time_columns())
    print_table("Seconds a step, dual cache", cached, time_columns())
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    report = {"assumed": asdict(assumed), "exact": exact, "cached": cached}
    arguments.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
