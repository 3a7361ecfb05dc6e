"""stage=rewrite from the command line: files, manifest, kill and resume."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from completions_server import serve

from igpo_lightning.checks import validate
from igpo_lightning.errors import ConfigError
from igpo_lightning.models.tokenizer import train_tokenizer
from tests.composing import composed

ROWS = 6


def long_solution(i: int) -> str:
    return (
        f"Okay, so I need {i} + 1.\nFirst, {i} + 1 = {i + 1}.\nWait, let me check that: "
        f"{i} + 1 = {i + 1}.\nThat is what I wanted.\nThe answer is \\boxed{{{i + 1}}}."
    )


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a student's tokenizer."""
    folder = tmp_path_factory.mktemp("model")
    train_tokenizer([long_solution(i) for i in range(50)], 400).save_pretrained(folder)
    # The tokenizer is all that is read, but a model's folder has a configuration.
    (folder / "config.json").write_text('{"model_type": "igpo_tiny"}')
    return folder


@pytest.fixture
def source(tmp_path: Path) -> Path:
    rows: list[dict[str, Any]] = [
        {"id": f"r{i}", "question": f"{i} + 1?", "solution": long_solution(i), "answer": str(i + 1)}
        for i in range(ROWS)
    ]
    rows.append({"id": "bare", "question": "?", "solution": None, "answer": "1"})
    file = tmp_path / "long.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def overrides(model: Path, source: Path, output: Path, *more: str) -> list[str]:
    return [
        *("stage=rewrite", "data=jsonl", f"data.path={source}", "data.validation_share=0"),
        *(f"model.path={model}", f"stage.output={output}", "logger=[]", *more),
    ]


def rewrite(arguments: list[str]) -> dict[str, Any]:
    """Run the stage in this process."""
    from igpo_lightning.stages.rewrite import run

    config = composed(*arguments)
    validate(config)
    return run(config)


def rows_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.open()]


def test_the_rules_write_rows_manifest_and_picture(
    model: Path, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    counts = rewrite(overrides(model, source, output))
    assert (counts["problems"], counts["without_trace"], counts["kept"]) == (ROWS + 1, 1, ROWS)
    rows = rows_of(output / "jsonl.train.jsonl")
    assert [row["id"] for row in rows] == [f"r{i}" for i in range(ROWS)]
    assert rows[2] == {
        "id": "r2",
        "question": "2 + 1?",
        "solution": "First, 2 + 1 = 3.\nThe answer is \\boxed{3}.",
        "answer": "3",
    }
    manifest = json.loads((output / "manifest.json").read_text())
    assert manifest["counts"] == counts
    assert manifest["tokens_after"]["longest"] < manifest["tokens_before"]["median"]
    assert manifest["source"]["path"] == str(source)
    assert (output / "lengths.png").read_bytes().startswith(b"\x89PNG")
    assert f"kept {ROWS} of {ROWS + 1} traces" in capsys.readouterr().out


def test_what_fits_is_limited_and_counted(model: Path, source: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no rewrite passed"):
        rewrite(overrides(model, source, tmp_path / "out", "stage.max_tokens=3", "stage.limit=2"))
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["counts"]["dropped_by_reason"] == {"too_long": 2}


@pytest.mark.slow
def test_a_kill_costs_no_finished_row(
    model: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed while the fourth row is asked for; the second run asks for the others only."""
    output = tmp_path / "out"

    def behave(body: dict[str, Any], number: int) -> str:
        if number == 3:
            time.sleep(60)  # the kill comes here
        question = body["messages"][-1]["content"].split("Problem:\n")[1].split("\n")[0]
        i = int(question.split(" + ")[0])
        return f"{i} + 1 = {i + 1}\nThe final answer is $\\boxed{{{i + 1}}}$."

    more = ("rewriter=endpoint", "rewriter.concurrency=1", "stage.format=parquet")
    with serve(behave) as seen:
        folders = (f"hydra.run.dir={tmp_path}/hydra",)
        arguments = overrides(model, source, output, *more, *folders)
        first = subprocess.Popen(
            [sys.executable, "-m", "igpo_lightning", *arguments],
            env={**os.environ, "OPENAI_BASE_URL": seen.url, "OPENAI_MODEL": "m"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        deadline = time.monotonic() + 150
        while len(seen.bodies) < 4:
            assert first.poll() is None, first.stderr and first.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        first.send_signal(signal.SIGKILL)
        first.communicate()
        monkeypatch.setenv("OPENAI_BASE_URL", seen.url)
        monkeypatch.setenv("OPENAI_MODEL", "m")
        rewrite(overrides(model, source, output, *more))
    questions = [body["messages"][-1]["content"].split("\n")[1] for body in seen.bodies]
    assert questions[:4] == [f"{i} + 1?" for i in range(4)]
    assert questions[4:] == [f"{i} + 1?" for i in range(3, ROWS)]
    import pyarrow.parquet

    rows = pyarrow.parquet.read_table(output / "jsonl.train.parquet").to_pylist()
    assert [row["id"] for row in rows] == [f"r{i}" for i in range(ROWS)]
    assert rows[0]["solution"] == "0 + 1 = 1\nThe final answer is $\\boxed{1}$."
    manifest = json.loads((output / "manifest.json").read_text())
    assert manifest["counts"]["requests_of_this_run"] == ROWS - 3
    assert manifest["model"] == "m"
    # The same folder with another prompt would mix two kinds of rewrites.
    with pytest.raises(ConfigError, match=r"stage\.output="):
        rewrite([*overrides(model, source, output, *more), "rewriter.prompt='Short: {solution}'"])


def test_the_endpoint_needs_a_model(
    model: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_MODEL", raising=False)
    with pytest.raises(ConfigError, match=r"rewriter\.model=None: set OPENAI_MODEL"):
        rewrite(overrides(model, source, tmp_path / "out", "rewriter=endpoint"))


def test_a_failure_leaves_rows_for_the_next_run(
    model: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server is down for row 1; the second run asks for it alone."""
    monkeypatch.setenv("OPENAI_MODEL", "m")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    down = True

    def behave(body: dict[str, Any], number: int) -> str | int:
        question = body["messages"][-1]["content"].split("\n")[1]
        i = int(question.split(" + ")[0])
        if i == 1 and down:
            return 503
        return f"{i} + 1 = {i + 1}\nThe final answer is $\\boxed{{{i + 1}}}$."

    with serve(behave) as seen:
        monkeypatch.setenv("OPENAI_BASE_URL", seen.url)
        more = ("rewriter=endpoint", "rewriter.attempts=1", "rewriter.request_retries=0")
        arguments = overrides(model, source, tmp_path / "out", *more)
        first = rewrite(arguments)
        assert first["dropped_by_reason"] == {"request_failed": 1}
        assert len(seen.bodies) == ROWS
        down = False
        second = rewrite(arguments)
    assert second["kept"] == ROWS
    assert len(seen.bodies) == ROWS + 1
    rows = rows_of(tmp_path / "out" / "jsonl.train.jsonl")
    assert [row["id"] for row in rows] == [f"r{i}" for i in range(ROWS)]
