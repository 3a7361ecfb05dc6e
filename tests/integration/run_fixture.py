"""A server that starts whole runs of the command line."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from small_runs import Runs

from igpo_lightning.models import save_export
from igpo_lightning.models.tiny import TinyBackbone, TinyConfig
from igpo_lightning.models.tokenizer import train_tokenizer


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
    source = Path(__file__).resolve().parents[2] / "src"
    server = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("run_server.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"},
    )
    yield Runs(server, model)
    assert server.stdin is not None
    server.stdin.close()
    server.wait()
