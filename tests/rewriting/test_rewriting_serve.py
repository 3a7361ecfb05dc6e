"""The endpoint path against `transformers serve` with a tiny model, started here on loopback."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from igpo_lightning.checks import validate
from igpo_lightning.models.tokenizer import train_tokenizer
from tests.composing import composed

pytestmark = pytest.mark.slow

SUMS = ("0 + 2", "1 + 1", "2 + 0")
SHORT = "All is 2.\nThe final answer is $\\boxed{2}$."


def long_solution(sum_: str) -> str:
    return f"Wait, let me see: {sum_} = 2, or is it? Yes, {sum_} = 2. The answer is 2."


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chat model of 30,000 parameters that answers everything with SHORT."""
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("chat")
    tokenizer = train_tokenizer([*map(long_solution, SUMS), SHORT] * 3, 320)
    tokenizer.save_pretrained(folder)
    texts = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": long_solution(s)}],
            tokenize=False,
            add_generation_prompt=True,
        )
        + SHORT
        + tokenizer.eos_token
        for s in SUMS
    ]
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    network = LlamaForCausalLM(config)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    rows = [torch.tensor([tokenizer(t, add_special_tokens=False)["input_ids"]]) for t in texts]
    start = len(tokenizer(SHORT, add_special_tokens=False)["input_ids"]) + 1
    for _ in range(60):
        for ids in rows:
            labels = ids.clone()
            labels[:, :-start] = -100
            loss = network(input_ids=ids, labels=labels).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    assert float(loss) < 0.05
    network.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def server(model: Path) -> Iterator[str]:
    pytest.importorskip("fastapi")
    pytest.importorskip("uvicorn")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [
            *(sys.executable, "-c", "from transformers.cli.transformers import main; main()"),
            *("serve", str(model), "--device", "cpu", "--dtype", "float32"),
            *("--host", "127.0.0.1", "--port", str(port)),
        ],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    deadline = time.monotonic() + 200
    try:
        while True:
            assert process.poll() is None, process.stdout and process.stdout.read().decode()
            assert time.monotonic() < deadline, "transformers serve does not answer"
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2).close()
                break
            except OSError:
                time.sleep(0.3)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.kill()
        process.wait()


def test_rewriting_through_transformers_serve(
    model: Path, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from igpo_lightning.stages.rewrite import run

    rows: list[dict[str, Any]] = [
        {"id": s, "question": f"{s}?", "solution": long_solution(s), "answer": "2"} for s in SUMS
    ]
    rows.append({"id": "other", "question": "?", "solution": long_solution("1 + 1"), "answer": "3"})
    source = tmp_path / "long.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setenv("OPENAI_BASE_URL", server)
    monkeypatch.setenv("OPENAI_MODEL", str(model))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    config = composed(
        *("stage=rewrite", "data=jsonl", f"data.path={source}", "data.validation_share=0"),
        *(f"model.path={model}", f"stage.output={tmp_path / 'out'}", "logger=[]"),
        *("rewriter=endpoint", "rewriter.prompt='{solution}'", "rewriter.system=''"),
        *("rewriter.temperature=0", "rewriter.max_output_tokens=60", "rewriter.attempts=2"),
    )
    validate(config)
    counts = run(config)
    assert counts["kept"] == 3
    assert counts["dropped_by_reason"] == {"wrong_answer": 1}
    assert counts["requests_of_this_run"] == 5  # the wrong one was tried twice
    written = [json.loads(line) for line in (tmp_path / "out" / "jsonl.train.jsonl").open()]
    assert {row["solution"] for row in written} == {SHORT}
