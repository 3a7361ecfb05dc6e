"""A base model of transformers through the documented command: no chat template, nothing to set."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers

import igpo_lightning
from igpo_lightning.models.tokenizer import train_tokenizer


def modernbert(folder: Path) -> Path:
    """ModernBERT as its hub folder is laid out, tiny and untrained; its tokenizer has no chat."""
    tokenizer = train_tokenizer(["What is 2+3? It is \\boxed{5}."], 300)
    tokenizer.chat_template = None
    tokenizer.save_pretrained(folder)
    config = transformers.ModernBertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformers.ModernBertForMaskedLM(config).save_pretrained(folder)
    return folder


@pytest.mark.slow
def test_modernbert_trains_on_the_bare_text(tmp_path: Path) -> None:
    data = tmp_path / "gsm8k.jsonl"
    rows = [{"question": f"What is {i}+1?", "answer": str(i + 1)} for i in range(8)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    small = ["sampler.completion_length=16", "sampler.block_length=8", "sampler.steps=4"]
    small += ["stage.steps=1", "stage.prompts_per_step=2", "stage.group_size=2", "logger=[csv]"]
    small += ["stage.inner_updates=1", "stage.eval_before=false", "trainer.threads=1"]
    small += ["inpaint.chunk_max=8", "inpaint.tail=4", "prompt=none"]
    command = [sys.executable, "-m", "igpo_lightning", "model=hf", "data=gsm8k", *small]
    command += [f"model.path={modernbert(tmp_path / 'model')}", f"data.path={data}"]
    source = str(Path(igpo_lightning.__file__).parents[1])
    done = subprocess.run(
        [*command, f"hydra.run.dir={tmp_path / 'run'}"],
        env={**os.environ, "PYTHONPATH": source},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = done.stdout + done.stderr
    assert said.count("has no chat template, so prompts are the bare text") == 1
    assert "indexing errors" not in said
    assert (tmp_path / "run" / "export" / "config.json").exists()
