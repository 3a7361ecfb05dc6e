"""From a composed configuration to problems: by name, mixed, compared, and from the real files."""

import json
import logging
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from igpo_lightning.checks import validate
from igpo_lightning.config import CONF, named_data
from igpo_lightning.data import hub
from igpo_lightning.data.generated import GENERATORS
from igpo_lightning.data.sources import SplitNotFoundError
from igpo_lightning.errors import ConfigError
from igpo_lightning.models.tokenizer import train_tokenizer
from igpo_lightning.rewards.puzzles import is_solved
from igpo_lightning.settings import Settings
from igpo_lightning.stages.problems import encode, example_stream, grader, read_problems
from tests.composing import composed


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IGPO_DATA_DIR", raising=False)
    monkeypatch.setattr(hub, "hub_answers", lambda: False)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("IGPO_DATA_DIR", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(["What is 2+3? It is \\boxed{5}."], 300)


def config(*overrides: str) -> Settings:
    checked = composed(*overrides)
    validate(checked)
    return checked


def write(file: Path, rows: list[tuple[str, str]], **more: Any) -> None:
    lines = [
        json.dumps({"id": i, "question": q, "solution": "so", "answer": "1", **more})
        for i, q in rows
    ]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def ids(*overrides: str, split: str = "train") -> list[str]:
    return [p.id for p in read_problems(config(*overrides), split)]


def test_the_test_split_of_another_set(folder: Path) -> None:
    write(folder / "gsm8k.test.jsonl", [("g", "What?")])
    write(folder / "math500.test.jsonl", [("m", "Which?")])
    assert ids("data=metamathqa", split="test") == ["g"]
    assert ids("data=metamathqa", "data.test_from=math500", split="test") == ["m"]


def test_evaluation_problems_are_reported_or_removed(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(folder / "gsm8k.train.jsonl", [(f"t{i}", f"What is {i}+1?") for i in range(20)])
    write(folder / "gsm8k.test.jsonl", [("e0", "What is 3+1?"), ("e1", "what is 4 + 1")])
    write(folder / "math500.test.jsonl", [("m0", "What is 5+1?")])
    plain = ("data=gsm8k", "data.validation_share=0")
    assert len(ids(*plain)) == 20
    said = caplog.text
    assert "2 of 20 train problems are evaluation problems, kept, see data.overlap" in said
    assert "1 in gsm8k (after normalising), 1 in gsm8k (exactly)" in said
    removed = ids(*plain, "data.overlap=remove", "data.against=[math500]")
    assert set(removed) == {f"t{i}" for i in range(20)} - {"t3", "t4", "t5"}
    caplog.clear()
    assert len(ids(*plain, "data.overlap=ignore")) == 20
    assert caplog.text == ""


def test_a_set_that_cannot_be_compared_is_named(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(folder / "gsm8k.train.jsonl", [("t0", "What?"), ("t1", "Which?")])
    write(folder / "gsm8k.test.jsonl", [("e0", "Where?")])
    ids("data=gsm8k", "data.against=[aime24]")
    assert "not compared with aime24: no test split found" in caplog.text


def test_nothing_left_after_removal(folder: Path) -> None:
    write(folder / "gsm8k.train.jsonl", [("t0", "What?"), ("t1", "Which?")])
    write(folder / "gsm8k.test.jsonl", [("e0", "what"), ("e1", "which")])
    with pytest.raises(ConfigError, match=r"data\.overlap=remove: every train problem"):
        ids("data=gsm8k", "data.overlap=remove")


def test_a_mixture_holds_its_shares(folder: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    for name, count in (("gsm8k", 6), ("math", 9)):
        write(folder / f"{name}.train.jsonl", [(f"p{i}", f"{name} {i}?") for i in range(count)])
    write(folder / "gsm8k.test.jsonl", [("p0", "Held out?")])
    write(folder / "math500.test.jsonl", [("m0", "Held out too?")])
    mixed = config("data=mixture", "data.parts=[gsm8k,math]", "data.weights=[1,3]")
    problems = read_problems(mixed, "train")
    # The same id in two parts does not make the same problem: one of each is held out.
    assert len({p.id for p in problems}) == len(problems) == 5 + 8
    assert {p.id for p in read_problems(mixed, "test")} == {"gsm8k/p0", "math/m0"}
    stream = example_stream(mixed, encode(mixed, problems, tokenizer))
    parts = Counter(stream(position).problem.part for position in range(1000))
    assert parts == {"gsm8k": 250, "math": 750}
    assert stream(17).problem.id == stream(17).problem.id


def test_a_mixture_part_without_examples(folder: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    write(folder / "gsm8k.train.jsonl", [("a", "?"), ("b", "??")])
    write(folder / "math.train.jsonl", [("a", "long " * 700), ("b", "long " * 701)])
    mixed = config("data=mixture", "data.parts=[gsm8k,math]", "data.overlap=ignore")
    with pytest.raises(ConfigError, match="no problem of part math is left"):
        example_stream(mixed, encode(mixed, read_problems(mixed, "train"), tokenizer))


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["data=mixture"], "data.parts=[]: name the parts"),
        (["data=mixture", "data.parts=[gsm8k,gsm9k]"], "there is no data=gsm9k; use one of aime24"),
        (["data=mixture", "data.parts=[mixture]"], "is a mixture itself"),
        (["data=mixture", "data.parts=[gsm8k,gsm8k]"], "name every part once"),
        (["data=mixture", "data.parts=[gsm8k]", "data.weights=[0]"], "data.weights=[0.0]"),
        (["data=mixture", "data.parts=[gsm8k,math]", "data.weights=[1]"], "one number above 0"),
        (["data=gsm8k", "data.against=[x]"], "data.against=x: there is no data=x"),
        (["data=gsm8k", "data.test_from=x"], "data.test_from=x"),
        (["data=gsm8k", "data.overlap=drop"], "use one of report, remove, ignore"),
        (["data=gsm8k", "data.kind=chess"], "use one of math, countdown, sudoku"),
        (["data=gsm8k", "data.limit=0"], "data.limit=0: give at least 1"),
        (["prompt.user=hello"], "must hold {question}"),
        (["prompt.long_prompts=keep"], "use one of drop, cut"),
        (["data.wording=verbose"], "use one of names, values"),
        (["data=countdown", "data.wording=names"], "use one of forward, backward, words"),
        (["data=gsm8k", "data.wording=names"], "these traces are not generated"),
        (["stage=sft", "stage.padding=none"], "use one of full, longest"),
        (["stage=sft", "stage.timesteps=even"], "use one of independent, low_discrepancy"),
        (["stage=sft", "stage.eos_tail=0"], "stage.eos_tail=0: give at least 1"),
        (["stage=inspect", "stage.rows=-1"], "stage.rows=-1: give at least 0"),
    ],
)
def test_settings_that_do_not_fit(overrides: list[str], says: str) -> None:
    with pytest.raises(ConfigError) as error:
        config(*overrides)
    assert says in str(error.value)


def test_puzzles_choose_their_grader() -> None:
    assert grader(config("data=gsm8k")) is None
    assert grader(config("data=metamathqa")) is None
    assert grader(config("data=sudoku")) is is_solved
    assert grader(config("data=mixture", "data.parts=[gsm8k,countdown]")) is is_solved
    assert grader(config("data=gsm8k", "data.test_from=countdown")) is is_solved


def test_without_folder_and_network_every_way_is_told() -> None:
    with pytest.raises(SplitNotFoundError) as error:
        ids("data=amc")
    text = str(error.value)
    for part in (
        "data=amc: found no train split",
        "data.path is not set",
        "IGPO_DATA_DIR is not set",
        "hub AI-MO/NuminaMath-CoT, split train",
        "data.path=FILE",
        "IGPO_DATA_DIR=FOLDER with amc.train.jsonl or amc.jsonl",
        "network access to the hub",
    ):
        assert part in text


@pytest.mark.parametrize("name", sorted(file.stem for file in (CONF / "data").glob("*.yaml")))
def test_every_data_file_composes(name: str) -> None:
    overrides = ["data.parts=[gsm8k]"] if name == "mixture" else []
    assert config(f"data={name}", *overrides).data.name == named_data(name, "data").name


def test_hidden_long_prompts_are_logged(
    folder: Path, tokenizer: PreTrainedTokenizerFast, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    write(folder / "gsm8k.test.jsonl", [("a", "Short?"), ("b", "long " * 700)])
    given = config("data=gsm8k", "prompt.max_length=600")
    assert len(encode(given, read_problems(given, "test"), tokenizer)) == 1
    assert "gsm8k: 1 of 2 prompts longer than prompt.max_length=600 tokens: dropped" in caplog.text
    given = config("data=gsm8k", "prompt.long_prompts=cut")
    assert len(encode(given, read_problems(given, "test"), tokenizer)) == 2
    assert "tokens: cut" in caplog.text


SIZES = {
    "gsm8k": (7473, 1319),
    "math": (4500, 500),
    "amc": (407, 83),
    "math500": (None, 500),
    "amc23": (None, 40),
    "aime24": (None, 30),
    "minerva": (None, 272),
    "countdown": (4096, 256),  # generated
    "sudoku": (4096, 500),
}


@pytest.mark.shared
@pytest.mark.parametrize("name", SIZES)
def test_the_real_files(shared_data: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Every row is read; train and validation share the train file without overlap."""
    monkeypatch.setenv("IGPO_DATA_DIR", str(shared_data))
    train_rows, test_rows = SIZES[name]
    given = config(f"data={name}")
    test = read_problems(given, "test")
    assert len({p.id for p in test}) == len(test) == test_rows
    assert all(p.question.strip() and p.answer.strip() for p in test)
    if train_rows is None:
        with pytest.raises(SplitNotFoundError, match="found no train split"):
            read_problems(given, "train")
        return
    train, held = read_problems(given, "train"), read_problems(given, "validation")
    if name in GENERATORS:
        assert len({p.id for p in train + held}) == len(train) + len(held)
        assert 0.95 * train_rows < len(train) <= train_rows, "less those of the test file"
        return
    assert len(train) + len(held) == len({p.id for p in train + held}) == train_rows
    assert all(p.solution for p in train)


@pytest.mark.shared
def test_real_puzzles(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IGPO_DATA_DIR", str(shared_data))
    first = read_problems(config("data=countdown"), "test")[0]
    assert "30, 100, 93" in first.question
    assert "23" in first.question
    assert is_solved(first.gold, "93 - (100 - 30)")
    sudokus = read_problems(config("data=sudoku"), "test")
    assert all(is_solved(p.gold, p.answer) for p in sudokus)
    assert sudokus[0].question.count("3102200002100320") == 1
