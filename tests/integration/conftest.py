"""Whole runs of the command line: in a process of its own, or from a server that forks them."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from small_runs import Runs

from igpo_lightning.models import save_export
from igpo_lightning.models.tiny import TinyBackbone, TinyConfig
from igpo_lightning.models.tokenizer import train_tokenizer

SOURCE = Path(__file__).resolve().parents[2] / "src"
Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    model = tmp_path_factory.mktemp("model")
    texts = ["Start 12; A+5; B-3", "12+34=46; 46-5=41"]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        sizes = TinyConfig(
            vocab_size=300,
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
        )
        save_export(TinyBackbone(sizes), train_tokenizer(texts, 300), model)
    server = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("run_server.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"},
    )
    yield Runs(server, model)
    assert server.stdin is not None
    server.stdin.close()
    server.wait()


@pytest.fixture
def igpo(tmp_path: Path) -> Command:
    """`igpo("stage=eval", ...)`: the command line in an empty folder, off line, on one thread."""

    def run(
        *overrides: str, code: int = 0, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "igpo_lightning", *overrides],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=240,
            env={
                **{k: v for k, v in os.environ.items() if k != "IGPO_DATA_DIR"},
                "PYTHONPATH": str(SOURCE),
                "OMP_NUM_THREADS": "1",
                "HF_HUB_OFFLINE": "1",
                "COLUMNS": "140",
                **(env or {}),
            },
        )
        assert done.returncode == code, f"{done.stdout[-3000:]}\n{done.stderr[-6000:]}"
        return done

    return run
