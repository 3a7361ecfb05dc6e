"""One RL step of LLaDA-8B at random weights on a CPU, then the export: memory against the plan.

`make real-size` runs it: 24 GB, about ten minutes on two cores. LoRA of rank 8 over bfloat16
weights; every group gets extra samples with the whole trace as hint, so that some are right and
the gradient is not zero. Problems and tokenizer are the embedded ones, of which a random model
answers nothing by itself. `--small` tries the same with a narrow model in a minute. `--device cuda`
takes larger sizes on a GPU of 80 GB, and measures the GPU's memory. Prints a table, and writes JSON
beside the run.
"""

import argparse
import csv
import functools
import json
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from lightning import Trainer
from rl_step import Phases, watch_all
from safetensors import safe_open

from igpo_lightning import cli, compose
from igpo_lightning.models.loading import bundled_config
from igpo_lightning.models.memory import PHASES, Plan
from igpo_lightning.models.tokenizer_files import load_tokenizer
from igpo_lightning.settings import Settings
from igpo_lightning.stages import build, plan, rl
from igpo_lightning.stages.capacity import size_text

OUTPUT = Path("runs/real_size")
SMALL = {"d_model": 256, "n_heads": 4, "n_kv_heads": 4, "n_layers": 4, "mlp_hidden_size": 512}
SETTINGS = (
    *("data=arithmetic", "model=llada_8b", "model.init=random"),
    *("inpaint.trigger=always", "inpaint.ratio=1", "inpaint.exclude_answer=false"),
    *("filter.kind=none", "stage.steps=1", "stage.eval_before=false", "stage.eval_after=true"),
    *("data.train_size=8", "data.eval_size=8", "prompt.max_length=32", "logger=[csv]"),
    "resume=null",
)
SIZES = {
    "cpu": (
        *("trainer=cpu", "trainer.precision=bf16-mixed", "model.lora.rank=8", "eval.limit=1"),
        *("stage.prompts_per_step=1", "stage.group_size=4", "stage.inner_updates=1"),
        *("sampler.completion_length=48", "sampler.block_length=16", "sampler.steps=6"),
    ),
    "cuda": (
        *("trainer=gpu", "stage.prompts_per_step=2", "stage.group_size=8", "eval.limit=8"),
        *("sampler.completion_length=256", "sampler.block_length=32", "sampler.steps=128"),
    ),
}
# Phase of the clocks -> the part of the plan that it is held against.
PLANNED = {
    "loading": "loading",
    "sampling": "rollout",
    "inpainting": "rollout",
    "likelihoods": "update",
    "update": "update",
    "checkpoints": "checkpoint",
    "evaluation": "evaluation",
    "export": "export",
}


class Memory(Phases):
    """Books the greatest memory of the process on the phase that is running, beside its time."""

    def __init__(self, device: str, file: Path) -> None:
        self.device, self.file = device, file
        self.peaks: dict[str, int] = defaultdict(int)
        super().__init__(gpu_seconds if device == "cuda" else time.perf_counter)

    def book(self) -> None:
        """Give time and peak since the last call to what is running."""
        super().book()
        phase, in_model = self.running[-1]
        if in_model:  # called thousands of times: its phase is booked when it ends
            return
        self.peaks[phase] = max(self.peaks[phase], peak(self.device))
        # A run that the system kills for its memory leaves this.
        self.file.write_text(json.dumps(self.peaks, indent=2) + "\n", encoding="utf-8")


def gpu_seconds() -> float:
    """The time at which the GPU has done all that it was given."""
    torch.cuda.synchronize()
    return time.perf_counter()


def peak(device: str) -> int:
    """Most bytes held since the last call, of the GPU or by this process; then counts anew."""
    if device == "cuda":
        highest = torch.cuda.max_memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        return highest
    process = Path("/proc/self")
    lines = (process / "status").read_text(encoding="ascii").splitlines()
    highest = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    (process / "clear_refs").write_text("5")
    return 1024 * highest


def write_model(folder: Path, small: bool, layers: int) -> None:
    """A folder without weights: LLaDA-8B's sizes, and the embedded tokenizer with its ids."""
    tokenizer = load_tokenizer("tiny")
    tokenizer.save_pretrained(folder)
    own = {f"{kind}_token_id": getattr(tokenizer, f"{kind}_token_id") for kind in ("mask", "eos")}
    own["pad_token_id"] = tokenizer.pad_token_id
    config = bundled_config("llada_8b") | (SMALL if small else {"n_layers": layers}) | own
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def measure(overrides: list[str], folder: Path, device: str) -> Memory:
    """Run the command line with clocks around its parts."""
    phases = Memory(device, folder.parent / "peaks.json")
    watch_all(phases)
    if device == "cuda":  # a CPU draws eight billion weights for minutes
        build.build_backbone = functools.partial(build.build_backbone, device=device)
    phases.watch(build, "build_backbone", "loading")
    phases.watch(rl, "export_model", "export")
    phases.watch(Trainer, "validate", "evaluation")
    sys.argv = ["igpo-lightning", *overrides, f"hydra.run.dir={folder}"]
    cli.main()
    phases.book()
    return phases


def planned(settings: Settings) -> tuple[dict[str, int], Plan]:
    """Bytes that the plan gives to each part, with what always stands."""
    made = plan.planned(settings)[1]
    standing = sum(v for k, v in made.memory.items() if k not in (*PHASES, "loading"))
    parts = {phase: standing + made.memory[phase] for phase in PHASES}
    return parts | {"loading": made.memory.get("loading", 0)}, made


def gradient(folder: Path) -> float:
    """The largest norm before clipping that the run logged."""
    with (folder / "metrics.csv").open(newline="") as file:
        norms = [row.get("policy/grad_norm") for row in csv.DictReader(file)]
    return max(float(norm) for norm in norms if norm)


def exported(folder: Path) -> int:
    """Bytes of all tensors of an export, by the headers of its files."""
    total = 0
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 (no mapping)
                shape = tensors.get_slice(name).get_shape()
                size = 2 if tensors.get_slice(name).get_dtype() == "BF16" else 4
                for side in shape:
                    size *= side
                total += size
    return total


def main() -> None:
    """Print one table, and write it as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("overrides", nargs="*", help="of the configuration")
    parser.add_argument("--experiment", default="igpo_paper", help="or igpo_fast")
    parser.add_argument("--device", choices=SIZES, default="cpu")
    parser.add_argument("--small", action="store_true", help="a narrow model, to try the command")
    parser.add_argument("--layers", type=int, default=32, help="fewer where memory is short")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=OUTPUT, help="of the run; 17 GB")
    options = parser.parse_args()
    folder: Path = options.folder
    model, run = folder / "model", folder / "run"
    model.mkdir(parents=True, exist_ok=True)
    write_model(model, options.small, options.layers)
    named = (f"model.path={model}", "model.architecture=null", f"trainer.threads={options.threads}")
    overrides = [
        f"experiment={options.experiment}",
        *SETTINGS,
        *SIZES[options.device],
        *named,
        *options.overrides,
    ]
    parts, made = planned(compose(overrides))
    before = peak(options.device)
    phases = measure(overrides, run, options.device)
    seconds: dict[str, float] = defaultdict(float)
    for (phase, _), spent in phases.seconds.items():
        seconds[phase] += spent
    rows: list[dict[str, Any]] = [
        {
            "phase": phase,
            "seconds": seconds[phase],
            "measured": phases.peaks[phase],
            "planned": (parts[PLANNED[phase]] or None) if phase in PLANNED else None,
        }
        for phase in seconds
    ]
    norm, bytes_written = gradient(run), exported(run / "export")
    print("| phase | seconds | peak | plan |")
    print("|---|---|---|---|")
    for row in rows:
        told = "-" if row["planned"] is None else size_text(row["planned"])
        spent, measured = row["seconds"], size_text(row["measured"])
        print(f"| {row['phase']} | {spent:.1f} | {measured} | {told} |")
    print(f"{size_text(before)} before the run, which the plan leaves out")
    print(f"gradient norm {norm:.3g}, export {size_text(bytes_written)}")
    report = {
        "overrides": overrides,
        "before": before,
        "rows": rows,
        "gradient": norm,
        "exported": bytes_written,
    }
    (folder / "real_size.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    if norm == 0 or bytes_written != made.counts.export_bytes:
        sys.exit(f"expected a gradient, and an export of {size_text(made.counts.export_bytes)}")


if __name__ == "__main__":
    main()
