"""stage=inspect through the real command line."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from igpo_lightning.models.tiny import TinyConfig
from igpo_lightning.models.tokenizer import train_tokenizer

Done = CompletedProcess[str]


@pytest.fixture
def inspect(igpo: Callable[..., Done], tmp_path: Path) -> Callable[..., Done]:
    """`inspect("data=...", code=0)`: the stage with a tokenizer that is trained on the spot."""
    model = tmp_path / "model"
    train_tokenizer(["What is 2+3? So it is \\boxed{5}."] * 4, 300).save_pretrained(model)
    TinyConfig().save_pretrained(model)
    given = ("stage=inspect", f"model.path={model}", f"hydra.run.dir={tmp_path / 'run'}")
    return partial(igpo, *given)


def write(file: Path, questions: list[str], solution: str | None) -> None:
    rows = [
        {"id": f"{file.stem}-{i}", "question": q, "solution": solution, "answer": "5"}
        for i, q in enumerate(questions)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def test_counts_lengths_overlap_and_rows(inspect: Callable[..., Done], tmp_path: Path) -> None:
    shared = "What is 2+3?"
    write(tmp_path / "own.train.jsonl", [shared, "long " * 80, "What is 1+4?"], "So it is 5.")
    write(tmp_path / "own.test.jsonl", ["what is 2 + 3"], None)
    done = inspect(
        "data=jsonl",
        f"data.path='{tmp_path}/own.{{split}}.jsonl'",
        "data.validation_share=0",
        "prompt=boxed",
        "prompt.max_length=100",
        "stage.rows=2",
    )
    run = tmp_path / "run"
    assert (run / "lengths.png").read_bytes().startswith(b"\x89PNG")
    numbers = json.loads((run / "inspection.json").read_text(encoding="utf-8"))
    train = numbers["splits"]["train"]
    assert (train["problems"], train["with_trace"], train["fitting"]) == (3, 3, 2)
    assert train["prompts"]["fitting"] == 2
    assert numbers["splits"]["test"]["with_trace"] == 0
    overlap = {"train_id": "own.train-0", "evaluation": "jsonl"}
    assert numbers["overlap"]["train"] == [
        {**overlap, "evaluation_id": "own.test-0", "exact": False}
    ]
    text = done.stdout
    assert "1 of 3 train problems are evaluation problems, kept" in text
    # A row as the model sees it, special tokens and all, and how much EOS follows the trace.
    assert f"<|user|>{shared}" in text
    assert "Put the final answer in \\boxed{}.<|assistant|>" in text
    assert "x <|eos|>]" in text
    assert "What is 1+4?" not in text  # the third row was not asked for
    assert "prompts of train, tokens (limit 100)" in text


@pytest.mark.slow
def test_nothing_to_inspect(inspect: Callable[..., Done]) -> None:
    done = inspect("data=gsm8k", code=2)
    assert "data=gsm8k: found no train split" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.parametrize("name", ["amc", "sudoku"])
def test_real_data(
    inspect: Callable[..., Done], tmp_path: Path, shared_data: Path, name: str
) -> None:
    split = "{split}" if name == "amc" else "test"
    inspect(f"data={name}", f"data.path='{shared_data}/{name}.{split}.jsonl'")
    numbers = json.loads((tmp_path / "run" / "inspection.json").read_text(encoding="utf-8"))
    counts = {split: part["problems"] for split, part in numbers["splits"].items()}
    if name == "sudoku":  # one file: what is held out of train is test
        assert counts["test"] == counts["validation"] > 0
        assert counts["train"] + counts["test"] == 500
    else:
        assert counts["test"] == 83
