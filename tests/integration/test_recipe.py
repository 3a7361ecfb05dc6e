"""The recipe from end to end: long traces -> rewriting -> SFT -> evaluation."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from igpo_lightning.models.tiny import TinyConfig
from igpo_lightning.models.tokenizer import train_tokenizer

SOURCE = Path(__file__).resolve().parents[2] / "src"
# The command line with each line of arguments; the libraries are imported once for all of them.
ONE_AFTER_THE_OTHER = """
import json, os, sys
from igpo_lightning import cli
from igpo_lightning.stages import eval, rewrite, sft
for arguments in json.load(sys.stdin):
    child = os.fork()
    if child == 0:
        sys.argv = ["igpo-lightning", *arguments]
        cli.main()
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status:
        sys.exit(status)
"""


def long_trace(a: int, b: int) -> str:
    total = a + b
    return (
        f"Okay, let me think about {a} and {b}.\n{a}+{b}={total}\n"
        f"Wait, is that right? Let me check again.\n{a}+{b}={total}\n"
        f"Yes, I am sure now.\nThe answer is \\boxed{{{total}}}."
    )


def lines(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.mark.slow
def test_from_long_traces_to_an_accuracy(tmp_path: Path) -> None:
    """Eight problems, learned by heart from a random start: what is written is what was rewritten.

    Packed, so that the command line trains that way once.
    """
    pairs = [(a, b) for a in (2, 5) for b in (1, 3, 4, 9)]
    rows = [
        {"id": f"{a}+{b}", "question": f"{a}+{b}=?", "solution": long_trace(a, b), "answer": a + b}
        for a, b in pairs
    ]
    source = tmp_path / "long.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    model = tmp_path / "model"
    train_tokenizer([f"{r['question']}\n{r['solution']}" for r in rows], 400).save_pretrained(model)
    TinyConfig(
        vocab_size=512,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
    ).save_pretrained(model)
    size = ("sampler.completion_length=24", "sampler.block_length=24", "sampler.steps=24")
    shared = (
        *("data=jsonl", "prompt=none", "prompt.max_length=16", "data.overlap=ignore", *size),
        *("logger=[csv]", "trainer.threads=1"),
    )

    short = tmp_path / "out" / "jsonl.train.jsonl"
    commands = [
        [
            "stage=rewrite",
            "data.validation_share=0",
            f"model.path={model}",
            f"data.path={source}",
            "stage.output=out",
        ],
        [
            *("stage=sft", "data.validation_share=0.1", f"data.path={short}", "hydra.run.dir=sft"),
            *(f"model.path={model}", "model.init=random", "stage.eval_after=false"),
            *("stage.padding=packed", "stage.eos_tail=6", "stage.timesteps=low_discrepancy"),
            *("stage.steps=400", "stage.batch_size=16", "optimizer.lr=5e-3"),
            *("optimizer.warmup_steps=20", "optimizer.grad_norm=1.0"),
            *("stage.val_every=400", "stage.checkpoint_every=400"),
        ],
        ["stage=eval", f"data.path={short}", "model.path=sft/export", "hydra.run.dir=eval"],
    ]
    done = subprocess.run(
        [sys.executable, "-c", ONE_AFTER_THE_OTHER],
        input=json.dumps([[*command, *shared] for command in commands]),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "PYTHONPATH": str(SOURCE),
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
        },
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]
    written = {row["id"]: row["solution"] for row in lines(short)}
    assert len(written) == len(rows)
    assert written["2+9"] == "2+9=11\nThe answer is \\boxed{11}."
    summary = json.loads((tmp_path / "eval" / "summary.json").read_text())["after"]
    answers = {s["id"]: s["completion"] for s in lines(tmp_path / "eval" / "samples.jsonl")}
    assert summary["problems"] == len(rows)
    assert summary["mean"] >= 0.7, answers  # one of the eight was held out for validation


def test_a_model_that_cannot_pack_says_so(igpo, tmp_path: Path) -> None:
    import transformers

    tokenizer = train_tokenizer(["1+2=3"], 300)
    config = transformers.BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=8,
        mask_token_id=tokenizer.mask_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    transformers.BertForMaskedLM(config).save_pretrained(tmp_path / "bert")
    tokenizer.save_pretrained(tmp_path / "bert")
    done = igpo(
        *("stage=sft", "model.path=bert", "stage.padding=packed", "data.train_size=8"),
        *("data.eval_size=8", "logger=[]"),
        code=2,
    )
    said = " ".join((done.stdout + done.stderr).split())
    assert "stage.padding=packed: bert is a TransformersBackbone" in said
    assert "use stage.padding=longest" in said
