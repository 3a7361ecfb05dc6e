"""Whole runs through the command line, with faults at chosen places."""

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from igpo_lightning.models import save_export
from igpo_lightning.models.tiny import TinyBackbone
from igpo_lightning.models.tokenizer import train_tokenizer
from tests.integration.forked import CommandServer
from tests.small_backbones import BLOCK_CAUSAL, build_native, tiny_config

MODEL = "model.init=random trainer.threads=1 optimizer.lr=1e-3 logger=[csv]"
DATA = "data.train_size=16 data.eval_size=16 eval.limit=4"
SAMPLER = "sampler.completion_length=16 sampler.block_length=8 sampler.steps=4"
HINTS = "inpaint.chunk_min=2 inpaint.chunk_max=3"
SMALL = (*MODEL.split(), *DATA.split(), *SAMPLER.split(), *HINTS.split())
ROLLOUTS = "stage.prompts_per_step=2 stage.group_size=3 stage.inner_updates=2 stage.steps=5"
PACE = "stage.checkpoint_every=1 stage.eval_every=2 stage.log_samples_every=1"
RL = (*SMALL, *ROLLOUTS.split(), *PACE.split())
TRACES = "stage=sft stage.batch_size=4 stage.steps=6 stage.checkpoint_every=2"
SFT = (*SMALL, *TRACES.split())


@dataclass
class Runs:
    """Starts runs of a random model and shows what they left."""

    server: CommandServer
    model: Path

    def start(self, folder: Path, *args: str, at: Path | None = None, **request: Any) -> int:
        """The exit status of a run; `folder` is its run folder, unless it is `at` another.

        Of several ranks the first one's that is not 0.
        """
        folder.mkdir(parents=True, exist_ok=True)
        given = [*args, f"model.path={self.model}", f"hydra.run.dir={at or folder}"]
        return self.command(folder.with_suffix(".log"), given, **request)

    def command(self, log: Path, args: Sequence[str], **request: Any) -> int:
        """The exit status of a command line, whose output is added to a file."""
        return self.server.run(args, log, **request)

    def log(self, folder: Path) -> str:
        """What the runs in a folder printed."""
        return folder.with_suffix(".log").read_text()


def save_tiny(folder: Path, **sizes: Any) -> Path:
    """An embedded model of one layer, or of other sizes, with its tokenizer."""
    texts = ["Start 12; A+5; B-3", "12+34=46; 46-5=41"]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_export(TinyBackbone(tiny_config(300, **sizes)), train_tokenizer(texts, 300), folder)
    return folder


def decoder(runs: Runs, name: str, folder: Path) -> Runs:
    """Runs of a small decoder of another family; a block of block-causal attention has 4 tokens."""
    blocks = {"block_size": 4} if name in BLOCK_CAUSAL else {}
    model = build_native(name, vocab_size=300, num_hidden_layers=1, **blocks)
    save_export(model, train_tokenizer(["Start 12; A+5; B-3", "12+34=46; 46-5=41"], 300), folder)
    return replace(runs, model=folder)


def results(folder: Path) -> dict[str, Any]:
    """All that a run computed, as texts; only times of the clock are left out."""
    with (folder / "metrics.csv").open(newline="") as file:
        rows = [
            {k: v for k, v in row.items() if v and not k.startswith("time/")}
            for row in csv.DictReader(file)
        ]
    weights = (folder / "export" / "model.safetensors").read_bytes()
    samples = folder / "samples.jsonl"
    summary = json.loads((folder / "summary.json").read_text())
    return {
        "metrics": rows,
        "weights": weights,
        "samples": samples.read_text() if samples.exists() else None,
        "summary": {k: v for k, v in summary.items() if not k.startswith("time/")},
    }
