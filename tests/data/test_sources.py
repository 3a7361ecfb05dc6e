"""Every way to a problem, which way wins, and what a mistake says."""

import gzip
import json
import os
import socket
import subprocess
import sys
import time
import tracemalloc
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from omegaconf.errors import ConfigKeyError, ValidationError

from igpo_lightning.config import named_data, schema
from igpo_lightning.data import hub, sources
from igpo_lightning.data.hub import HubTable
from igpo_lightning.data.sources import divided_file, load_problems
from igpo_lightning.errors import ConfigError
from igpo_lightning.settings import DataConfig

CONF = Path(__file__).resolve().parents[2] / "conf" / "data"
NAMES = sorted(file.stem for file in CONF.glob("*.yaml"))


def row(index: int, **changes: Any) -> dict[str, Any]:
    plain = {"id": f"p{index}", "question": f"What is {index}+1?"}
    return {**plain, "solution": f"It is {index + 1}.", "answer": f"{index + 1}", **changes}


def write(file: Path, rows: list[Any]) -> Path:
    text = "".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows)
    file.write_bytes(gzip.compress(text.encode()) if file.suffix == ".gz" else text.encode())
    return file


def with_table(source: DataConfig, of: str, **changes: Any) -> DataConfig:
    """The source with another table for a split of the hub."""
    return replace(source, hub=source.hub | {of: replace(source.hub[of], **changes)})


def whole(**changes: Any) -> DataConfig:
    """A source whose train split is everything that was found."""
    return DataConfig(**{"name": "own", "validation_share": 0.0, **changes})


def conf(name: str) -> DataConfig:
    return named_data(name, "data")


def ids(source: DataConfig, split: str = "train") -> list[str]:
    return [problem.id for problem in load_problems(source, split)]


def refused(source: DataConfig, split: str = "train") -> str:
    with pytest.raises(ConfigError) as error:
        load_problems(source, split)
    return str(error.value)


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IGPO_DATA_DIR", raising=False)
    monkeypatch.setattr(hub, "hub_answers", lambda: False)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("IGPO_DATA_DIR", str(tmp_path))
    return tmp_path


# Local files


@pytest.mark.parametrize("end", [".jsonl", ".jsonl.gz"])
def test_path_reads_the_common_form(tmp_path: Path, end: str) -> None:
    file = write(tmp_path / f"a{end}", [row(1, level=3), "", row(2, solution=None), row(3)])
    first, second, third = load_problems(whole(path=str(file)), "train")
    assert (first.id, first.question, first.solution) == ("p1", "What is 1+1?", "It is 2.")
    assert (first.answer, first.level) == ("2", 3)
    assert second.solution is None
    assert third.level is None


@pytest.mark.parametrize("end", [".jsonl", ".jsonl.gz"])
def test_folder_prefers_the_file_of_the_split(folder: Path, end: str) -> None:
    write(folder / f"own{end}", [row(1)])
    assert ids(whole()) == ["p1"]
    write(folder / f"own.train{end}", [row(2)])
    write(folder / f"own.test{end}", [row(3)])
    assert ids(whole()) == ["p2"]
    assert ids(whole(), "test") == ["p3"]


def test_a_file_without_a_split_is_test_where_the_source_has_only_that(folder: Path) -> None:
    write(folder / "math500.jsonl", [row(1)])
    assert ids(conf("math500"), "test") == ["p1"]
    assert "math500" in refused(conf("math500"), "train")


def test_path_beats_the_folder_and_the_folder_beats_the_hub(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    write(elsewhere / "train.jsonl", [row(9)])
    source = whole(hub={"train": HubTable(repository=str(elsewhere))})
    assert ids(source) == ["p9"]
    write(folder / "own.train.jsonl", [row(2)])
    assert ids(source) == ["p2"]
    source = replace(source, path=str(write(elsewhere / "mine.jsonl", [row(1)])))
    assert ids(source) == ["p1"]


def test_a_path_with_the_split_in_it_has_one_file_each(tmp_path: Path) -> None:
    source = DataConfig(name="own", path=str(tmp_path / "x.{split}.jsonl"))
    for index, split in enumerate(("train", "validation", "test")):
        write(tmp_path / f"x.{split}.jsonl", [row(index)])
        if split != "train":
            assert ids(source, split) == [f"p{index}"]
    assert ids(source) == ["p0"]  # nothing is held out: validation has its own file


@pytest.mark.parametrize("place", ["path", "folder"])
def test_one_file_never_tests_on_what_it_trains_on(
    folder: Path, tmp_path: Path, place: str
) -> None:
    file = write(folder / "own.jsonl", [row(i) for i in range(12)])
    source = DataConfig(name="own", path=str(file) if place == "path" else None)
    train, test = ids(source), ids(source, "test")
    assert sorted(train + test) == sorted(f"p{i}" for i in range(12))
    assert test == ids(source, "validation")
    assert len(test) == 1  # a twentieth of 12 is none, and one is held out all the same
    assert divided_file(source) == file


def test_a_share_of_0_tests_on_every_row(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", [row(1), row(2)])
    assert ids(whole(path=str(file))) == ids(whole(path=str(file)), "test") == ["p1", "p2"]


def test_a_test_split_of_its_own_is_whole(folder: Path) -> None:
    write(folder / "own.jsonl", [row(i) for i in range(12)])
    write(folder / "own.test.jsonl", [row(i) for i in range(20, 40)])
    assert divided_file(DataConfig(name="own")) is None
    assert len(ids(DataConfig(name="own"), "test")) == 20
    only_test = DataConfig(name="own", hub={"test": HubTable(repository="a/b")})
    (folder / "own.test.jsonl").unlink()
    assert len(ids(only_test, "test")) == 12


def test_own_columns_filter_uniqueness_and_limit(tmp_path: Path) -> None:
    def own(question: str, kind: str, text: str) -> dict[str, str]:
        return {"q": question, "kind": kind, "why": text}

    file = write(
        tmp_path / "a.jsonl",
        [
            own("a", "x", "The answer is: 1"),
            own("b", "y", "The answer is: 2"),
            own("a", "x", "The answer is: 3"),
            own("c", "x", "So $4$.\nThe answer is: 4."),
            own("d", "x", "The answer is: 5"),
        ],
    )
    source = whole(
        path=str(file),
        columns={"question": "q", "solution": "why"},
        answer_from="the_answer_is",
        keep={"kind": ["x"]},
        unique_by="q",
        limit=2,
    )
    problems = load_problems(source, "train")
    # The row number of the file makes the id, so that a filter does not rename what is left.
    assert [(p.id, p.question, p.answer) for p in problems] == [
        ("a-0", "a", "1"),
        ("a-3", "c", "4"),
    ]


@pytest.mark.parametrize(
    ("how", "solution", "answer"),
    [
        ("hash", "6*7 = <<6*7=42>>42\n#### 42", "42"),
        ("hash", "#### 1,234,567", "1234567"),
        ("box", r"First \boxed{1}, then \boxed{\frac{1}{2}}.", r"\frac{1}{2}"),
        ("box", r"They frost $\boxed{\textbf{(D)}\ 25}$ cupcakes.", "25"),
        ("box", r"So $\boxed{\text{A}}$.", r"\text{A}"),
        ("the_answer_is", r"\boxed{3}" + "\nThe answer is: 3", "3"),
    ],
)
def test_answers_are_taken_out_of_solutions(
    tmp_path: Path, how: str, solution: str, answer: str
) -> None:
    file = write(tmp_path / "a.jsonl", [{"question": "?", "solution": solution}])
    (problem,) = load_problems(whole(path=str(file), answer_from=how), "train")
    assert problem.answer == answer


@pytest.mark.parametrize("how", ["hash", "box", "the_answer_is"])
def test_a_local_solution_without_its_answer_is_a_mistake(tmp_path: Path, how: str) -> None:
    file = write(tmp_path / "a.jsonl", [row(1), row(2, solution="It is 3.")])
    assert "line 1: no final answer" in refused(whole(path=str(file), answer_from=how))


def test_numbers_are_read_as_text(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", [row(1, id=7, answer=142.0, level="Level 5")])
    (problem,) = load_problems(whole(path=str(file)), "train")
    assert (problem.id, problem.answer, problem.level) == ("7", "142", 5)


def test_a_parquet_file(folder: Path) -> None:
    import datasets

    rows = [row(1, level=2), row(2, solution=None, level=None)]
    datasets.Dataset.from_list(rows).to_parquet(folder / "own.train.parquet")
    first, second = load_problems(whole(), "train")
    assert (first.id, first.solution, first.answer, first.level) == ("p1", "It is 2.", "2", 2)
    assert (second.solution, second.level) == (None, None)
    (folder / "bad.parquet").write_bytes(b"not parquet")
    assert "bad.parquet cannot be read" in refused(whole(path=str(folder / "bad.parquet")))
    del rows[0]["question"]
    datasets.Dataset.from_list(rows[:1]).to_parquet(folder / "own.train.parquet")
    assert "own.train.parquet, row 0: no column 'question'" in refused(whole())


# Validation


def test_validation_is_held_out_and_the_rest_is_train(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", [row(i) for i in range(1000)])
    source = DataConfig(path=str(file), validation_share=0.1)
    train, held = ids(source), ids(source, "validation")
    assert not set(train) & set(held)
    assert sorted(train + held) == sorted(f"p{i}" for i in range(1000))
    assert 70 <= len(held) <= 130  # binomial: 100 with a standard deviation of 9.5


def test_who_is_held_out_depends_on_the_id_alone(tmp_path: Path) -> None:
    source = DataConfig(path=str(write(tmp_path / "a.jsonl", [row(i) for i in range(200)])))
    held = ids(source, "validation")
    more = DataConfig(path=str(write(tmp_path / "b.jsonl", [row(i) for i in range(400)][::-1])))
    assert set(held) == set(ids(more, "validation")) & {f"p{i}" for i in range(200)}
    source = replace(source, limit=3)
    assert ids(source, "validation") == held[:3]


@pytest.mark.parametrize("share", [1e-9, 0.999])
def test_both_parts_get_at_least_one_row(tmp_path: Path, share: float) -> None:
    file = write(tmp_path / "a.jsonl", [row(1), row(2)])
    source = DataConfig(path=str(file), validation_share=share)
    assert len(ids(source)) == len(ids(source, "validation")) == 1


def test_a_single_row_cannot_be_shared(tmp_path: Path) -> None:
    source = DataConfig(path=str(write(tmp_path / "a.jsonl", [row(1)])))
    assert "data.validation_share=0" in refused(source)


def test_no_share_no_validation(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", [row(1), row(2)])
    assert len(ids(whole(path=str(file)))) == 2
    assert "no validation split with data.validation_share=0" in refused(
        whole(path=str(file)), "validation"
    )


def test_a_validation_file_leaves_train_whole(folder: Path) -> None:
    write(folder / "own.train.jsonl", [row(i) for i in range(50)])
    write(folder / "own.validation.jsonl", [row(99)])
    assert len(ids(DataConfig(name="own"))) == 50
    assert ids(DataConfig(name="own"), "validation") == ["p99"]


# Mistakes


def test_what_was_tried_and_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    text = refused(conf("gsm8k"), "test")
    assert "data=gsm8k: found no test split" in text
    assert "data.path is not set" in text
    assert "IGPO_DATA_DIR is not set" in text
    assert "hub openai/gsm8k" in text
    assert "did not answer" in text
    for way in ("data.path=FILE", "IGPO_DATA_DIR=FOLDER with gsm8k.test.jsonl", "network"):
        assert way in text
    monkeypatch.setenv("IGPO_DATA_DIR", str(tmp_path))
    assert f"IGPO_DATA_DIR={tmp_path}: no gsm8k.train.jsonl(.gz), gsm8k.jsonl(.gz)" in refused(
        conf("gsm8k")
    )
    monkeypatch.setenv("IGPO_DATA_DIR", "/nowhere")
    assert "IGPO_DATA_DIR=/nowhere: no such folder" in refused(conf("gsm8k"))


def test_a_path_that_is_not_there_is_not_passed_over(folder: Path) -> None:
    write(folder / "own.train.jsonl", [row(1)])
    assert "data.path=/nowhere.jsonl: no file" in refused(whole(path="/nowhere.jsonl"))


def test_a_split_that_the_source_lacks() -> None:
    assert "found no train split" in refused(conf("math500"))
    assert "has test there" in refused(conf("math500"))
    assert "from which validation is cut" in refused(conf("math500"), "validation")
    assert "split=tests: use one of train, validation, test" in refused(conf("math500"), "tests")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{not json", "not JSON"),
        ("[1, 2]", "is not a JSON object; write one JSON object per line"),
        ({"answer": "1"}, "no column 'question'"),
        ({"question": "?"}, "no column 'answer'"),
        (row(2, question=" "), "question must be text"),
        (row(2, question=["?"]), "question must be text"),
        (row(2, solution=5), "solution must be text or null"),
        (row(2, answer=None), "answer must be text or a number"),
        (row(2, answer=True), "answer must be text or a number"),
        (row(2, answer=""), "answer must be text or a number"),
        (row(2, level="hard"), "level must be a whole number"),
        (row(2, level=1.5), "level must be a whole number"),
        (row(1), "id 'p1' is already that of"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: Any, says: str) -> None:
    file = write(tmp_path / "a.jsonl", [row(1), "", line])
    text = refused(whole(path=str(file)))
    assert f"{file}, line 3: " in text
    assert says in text


def test_unreadable_files(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(b"not gzip")
    (tmp_path / "b.jsonl").write_bytes(b'{"question": "\xff"}')
    (tmp_path / "c.jsonl").write_bytes(b"")
    cut = write(tmp_path / "d.jsonl.gz", [row(i) for i in range(100)])
    cut.write_bytes(cut.read_bytes()[:-20])
    for name in ("a.jsonl.gz", "b.jsonl", "d.jsonl.gz"):
        assert "cannot be read" in refused(whole(path=str(tmp_path / name)))
    assert "no row is left" in refused(whole(path=str(tmp_path / "c.jsonl")))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"question": "?", "answer": NaN}', "NaN is no number"),
        ('{"question": "?", "answer": -Infinity}', "-Infinity is no number"),
        ('{"question": "?", "answer": 1e400}', "1e400 is too large for a number"),
        ('{"question": "?", "answer": %s}' % ("9" * 5000), "5000 digits; write it as text"),
        ('{"question": "a\\ud800b", "answer": "1"}', "'question' holds half of a surrogate pair"),
        ('{"question": "?", "answer": "1", "level": "%s"}' % ("9" * 5000), "level must be"),
        ('[{"question": "?"},', "write one JSON object per line, not one array"),
    ],
)
def test_what_json_allows_and_no_text_holds(tmp_path: Path, text: str, says: str) -> None:
    message = refused(whole(path=str(write(tmp_path / "a.jsonl", [row(1), text]))))
    assert f"{tmp_path / 'a.jsonl'}, line 2: " in message
    assert says in message
    assert "\n" not in message


def test_answers_and_ids_of_any_text(tmp_path: Path) -> None:
    long, odd = "9" * 5000, "[/red]\x1b[2J"
    file = write(tmp_path / "a.jsonl", [row(1, answer=long, id=odd), row(2, question="a\u2028b")])
    first, second = load_problems(whole(path=str(file)), "train")
    assert (first.answer, first.id, second.question) == (long, odd, "a\u2028b")


def test_a_row_with_line_separators_is_one_line(tmp_path: Path) -> None:
    text = json.dumps(row(1, question="a\u2028b\u0085c"), ensure_ascii=False)
    (problem,) = load_problems(whole(path=str(write(tmp_path / "a.jsonl", [text]))), "train")
    assert problem.question == "a\u2028b\u0085c"


@pytest.mark.parametrize("end", [".jsonl", ".csv"])
def test_a_byte_order_mark_is_no_text(tmp_path: Path, end: str) -> None:
    lines = {".jsonl": json.dumps(row(1)), ".csv": "question,answer\n?,1\n"}
    file = tmp_path / f"a{end}"
    file.write_bytes(b"\xef\xbb\xbf" + lines[end].encode())
    assert len(load_problems(whole(path=str(file)), "train")) == 1


def test_a_csv_file(folder: Path) -> None:
    text = 'id,question,solution,answer,level\np1,"a ""b""\nc",It is 2.,2,3\np2,?,,"1,2",\n'
    (folder / "own.train.csv").write_text(text)
    first, second = load_problems(whole(), "train")
    assert (first.question, first.answer, first.level) == ('a "b"\nc', "2", 3)
    assert (second.solution, second.answer, second.level) == (None, "1,2", None)
    (folder / "own.train.csv").write_text("question,answer\n?,1,2\n")
    assert "own.train.csv, line 2: 3 cells, but the first line names 2" in refused(whole())


def test_what_a_file_is_instead(tmp_path: Path) -> None:
    assert f"{tmp_path} is a folder" in refused(whole(path=str(tmp_path)))
    (tmp_path / "a.jsonl").write_bytes(json.dumps(row(1)).encode("utf-16"))
    assert "it is UTF-16" in refused(whole(path=str(tmp_path / "a.jsonl")))
    (tmp_path / "b.jsonl").write_bytes(b'\n{"question": "\xe9"}')
    assert "b.jsonl, line 2 cannot be read: it is not UTF-8" in refused(
        whole(path=str(tmp_path / "b.jsonl"))
    )


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'{"question": "' + b"x" * 10**7 + b'"}', "line 1: longer than 4 MB"),
        pytest.param(
            b"\n" * 5 * 10**6, "holds over 200 times its size on disk", marks=pytest.mark.slow
        ),
        (b"x" * 10**8, "line 1: longer than 4 MB"),
    ],
)
def test_a_bomb_costs_little_memory(tmp_path: Path, content: bytes, says: str) -> None:
    file = tmp_path / "a.jsonl.gz"
    file.write_bytes(gzip.compress(content))
    tracemalloc.start()
    message = refused(whole(path=str(file)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert says in message
    assert peak < 20 * 2**20


def test_a_column_of_lists_tells_no_rows_apart(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", [row(1, tags=["a"])])
    message = refused(whole(path=str(file), unique_by="tags"))
    assert "line 1: data.unique_by=tags: the column holds list" in message
    message = refused(whole(path=str(file), unique_by=["id"]))
    assert "data.unique_by=['id']: give the name of one column" in message


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"columns": {"solution": "soluton"}}, "no column 'soluton'; it has id, question"),
        ({"keep": {"kind": ["x"]}}, "no column 'kind'"),
        ({"unique_by": "kind"}, "no column 'kind'"),
        ({"keep": {"id": ["p9"]}}, "no row is left"),
        ({"answer_from": "boxed"}, "use one of column, box, hash, the_answer_is"),
    ],
)
def test_wrong_settings(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    file = write(tmp_path / "a.jsonl", [row(1), row(2)])
    assert says in refused(whole(path=str(file), **changes))


# The hub


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder laid out as a hub repository; `datasets` reads it as it reads one."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    repository = tmp_path / "repository"
    (repository / "data").mkdir(parents=True)
    return repository


def test_a_real_folder_repository_in_json(repository: Path) -> None:
    rows = [{"question": f"q{i}", "answer": f"{i}+1 is\n#### {i + 1}"} for i in range(40)]
    write(repository / "train.jsonl", rows)
    write(repository / "test.jsonl", rows[:2])
    source = conf("gsm8k")
    for split in source.hub:
        source = with_table(source, split, repository=str(repository), config=None)
    train, held = ids(source), ids(source, "validation")
    assert sorted(train + held) == sorted(f"gsm8k-train-{i}" for i in range(40))
    test = load_problems(source, "test")
    assert [(p.id, p.answer) for p in test] == [("gsm8k-test-0", "1"), ("gsm8k-test-1", "2")]
    assert test[0].solution == "0+1 is\n#### 1"


def test_a_real_folder_repository_in_parquet(repository: Path) -> None:
    import datasets

    # The layout of aimo-validation-amc: its only split is called train and answers are floats.
    rows = [{"id": i, "problem": f"q{i}", "answer": float(i), "url": ""} for i in range(3)]
    datasets.Dataset.from_list(rows).to_parquet(repository / "data" / "train-0.parquet")
    source = conf("amc")
    source = with_table(source, "test", repository=str(repository))
    problems = load_problems(source, "test")
    assert [(p.id, p.answer, p.solution) for p in problems][2] == ("2", "2", None)
    wrong = with_table(source, "test", columns={"question": "prompt"})
    assert "no column 'prompt'; it has id, problem, answer, url" in refused(wrong, "test")
    assert "split test: " in refused(with_table(source, "test", split="test"), "test")


def test_what_each_source_asks_the_hub_for(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    asked: list[Any] = []

    def answer(*given: Any, **named: Any) -> datasets.Dataset:
        asked.append((*given, named))
        kinds = ("GSM_AnsAug", "MATH_AnsAug", "GSM_Rephrased", "GSM_AnsAug")
        return datasets.Dataset.from_list(
            [
                {
                    "question": f"q{i}",
                    "problem": f"q{i}",
                    "query": f"q{i % 3}",
                    "type": kind,
                    "source": "amc_aime" if i else "olympiads",
                    "response": f"So {i}.\nThe answer is: {i}",
                    "solution": rf"\boxed{{{i}}}" if i < 3 else "See above.",
                    "answer": f"{i} it is\n#### {i}",
                    "level": i + 1,
                    "unique_id": f"test/{i}.json",
                }
                for i, kind in enumerate(kinds)
            ]
        )

    monkeypatch.setattr(datasets, "load_dataset", answer)
    found = {}
    for name in ("gsm8k", "math500", "amc", "metamathqa"):
        source = conf(name)
        source = replace(source, validation_share=0.0)
        split = "test" if name == "math500" else "train"
        found[name] = [(p.id, p.question, p.answer) for p in load_problems(source, split)]
    assert asked == [
        ("openai/gsm8k", "main", {"split": "train"}),
        ("HuggingFaceH4/MATH-500", None, {"split": "test"}),
        ("AI-MO/NuminaMath-CoT", None, {"split": "train"}),
        ("meta-math/MetaMathQA", None, {"split": "train"}),
    ]
    assert found["gsm8k"][1] == ("gsm8k-train-1", "q1", "1")
    assert found["math500"][1][:2] == ("test/1.json", "q1")
    # Row 0 is of another source; row 3 has no box and is left out, since no user could mend it.
    assert [f[0] for f in found["amc"]] == ["amc-train-1", "amc-train-2"]
    # Row 2 is of another type; row 3 asks row 0's query again.
    assert [f[::2] for f in found["metamathqa"]] == [
        ("metamathqa-train-0", "0"),
        ("metamathqa-train-1", "1"),
    ]


# Columns, configurations and splits as the data sets' own public cards list them; docs/data.md says
# where each was looked up. Values are made up.
CARDS: dict[str, tuple[str, str | None, str, dict[str, Any], tuple[str, str, str | None]]] = {
    "amc23 test": (
        "math-ai/amc23",
        None,
        "test",
        {"id": 0, "question": "Which?", "answer": "27", "url": "https://a"},
        ("Which?", "27", None),
    ),
    "aime24 test": (
        "HuggingFaceH4/aime_2024",
        None,
        "train",
        {
            "id": 60,
            "problem": "Which?",
            "solution": r"It is \boxed{204}.",
            "answer": "204",
            "url": "https://a",
            "year": "2024",
        },
        ("Which?", "204", r"It is \boxed{204}."),
    ),
    "minerva test": (
        "math-ai/minervamath",
        None,
        "test",
        {"question": "How far?", "answer": r"4.5e33"},
        ("How far?", "4.5e33", None),
    ),
    "math train": (
        "DigitalLearningGmbH/MATH-lighteval",
        "default",
        "train",
        {
            "problem": "Add.",
            "level": "Level 5",
            "solution": r"It is $\boxed{2}$.",
            "type": "Algebra",
        },
        ("Add.", "2", r"It is $\boxed{2}$."),
    ),
    "sudoku test": (
        "Mayfull/sudoku",
        None,
        "test",
        {"puzzle": "0321003004002100", "solution": "4321123434122143"},
        ("0321003004002100", "4321123434122143", None),
    ),
    "amc test": (
        "AI-MO/aimo-validation-amc",
        None,
        "train",
        {"id": 0, "problem": "Which?", "answer": 142.0, "url": "https://a"},
        ("Which?", "142", None),
    ),
    "openr1_math train": (
        "open-r1/OpenR1-Math-220k",
        "default",
        "train",
        {
            "problem": "Which?",
            "solution": "A book's.",
            "answer": "7",
            "uuid": "u-1",
            "generations": ["It is 6.", "It is 7."],
            "correctness_math_verify": [False, True],
            "correctness_llama": None,
        },
        ("Which?", "7", "It is 7."),
    ),
}


@pytest.mark.parametrize("case", CARDS)
def test_rows_as_the_public_cards_describe_them(monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    import datasets

    repository, config, its_split, row, (question, answer, solution) = CARDS[case]
    asked: list[Any] = []

    def give(*given: Any, split: str) -> datasets.Dataset:
        asked.append((*given, split))
        return datasets.Dataset.from_list([row])

    monkeypatch.setattr(datasets, "load_dataset", give)
    monkeypatch.setattr(hub, "hub_answers", lambda: True)
    name, split = case.split()
    source = conf(name)
    source = replace(source, validation_share=0.0)
    (problem,) = load_problems(source, split)
    assert asked == [(repository, config, its_split)]
    assert question in problem.question
    assert (problem.answer, problem.solution) == (answer, solution)
    assert problem.level == (5 if name == "math" else None)


@pytest.mark.parametrize("broken", [RuntimeError("many\nlines"), KeyError("x"), OSError("disk")])
def test_any_error_of_the_hub_is_one_line(
    monkeypatch: pytest.MonkeyPatch, broken: Exception
) -> None:
    import datasets

    def fail(*_: Any, **__: Any) -> None:
        raise broken

    monkeypatch.setattr(datasets, "load_dataset", fail)
    monkeypatch.setattr(hub, "hub_answers", lambda: True)
    (line,) = (x for x in refused(conf("math500"), "test").splitlines() if "- hub" in x)
    assert type(broken).__name__ in line


def test_a_wrong_hub_entry() -> None:
    source = conf("math500")
    with pytest.raises(ConfigError, match=r"data\.hub\.test\.repository is missing"):
        replace(source, hub={"test": {"split": "test"}})
    with pytest.raises(ConfigError, match=r"data\.hub\.tests: no such split"):
        replace(source, hub={"tests": HubTable(repository="x")})
    with pytest.raises(ConfigError, match=r"data\.hub\.test\.repo: there is no such key"):
        replace(source, hub={"test": {"repo": "x"}})


@pytest.mark.slow
@pytest.mark.parametrize("server", ["silent", "refusing"])
def test_a_dead_network_costs_seconds(tmp_path: Path, server: str) -> None:
    """The hub's own retries take 25 s; HUB_PATIENCE is 4 s, the rest is imports."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if server == "silent":
            listener.listen()  # takes the connection and never answers
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        code = (
            "import time, datasets\n"
            "from igpo_lightning.data.hub import HubTable\n"
            "from igpo_lightning.data.sources import *\n"
            "table = HubTable(repository='a/b', split='test', columns={'question': 'q'})\n"
            "start = time.monotonic()\n"
            "try: load_problems(DataConfig(name='x', hub={'test': table}), 'test')\n"
            "except ConfigError as error: print(error)\n"
            "print(time.monotonic() - start)\n"
        )
        cut_off = {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path), "NO_PROXY": "127.0.0.1"}
        source_root = Path(sources.__file__).parents[2]
        env = {**os.environ, **cut_off, "PYTHONPATH": str(source_root)}
        start = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60
        )
    text, _, seconds = done.stdout.strip().rpartition("\n")
    assert "did not answer (waited up to 4 s)" in text, done.stderr
    assert float(seconds) < hub.HUB_PATIENCE + 2, time.monotonic() - start


# The shipped files


@pytest.mark.parametrize("name", NAMES)
def test_shipped_files_fit_the_schema(name: str) -> None:
    lines = (CONF / f"{name}.yaml").read_text().splitlines()
    assert lines[0].startswith("# Choose it ")
    assert conf(name).name == name.removesuffix("_d1")  # the same puzzles in other words
    assert set(OmegaConf.load(CONF / f"{name}.yaml")) <= {
        "defaults",
        *(entry.name for entry in fields(DataConfig)),
    }


def test_the_schema_refuses_what_is_wrong() -> None:
    with pytest.raises(ConfigKeyError):
        OmegaConf.merge(schema(DataConfig), {"pth": "x"})
    with pytest.raises(ValidationError):
        OmegaConf.merge(schema(DataConfig), {"limit": "many"})
    for changes, says in (({"validation_share": 1.0}, "share=1.0"), ({"limit": 0}, "limit=0")):
        with pytest.raises(ConfigError, match=says):
            DataConfig(**changes)


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "split", "rows", "traces"),
    [
        ("gsm8k", "test", 1319, 1319),
        ("math500", "test", 500, 500),
        ("amc", "test", 83, 0),
    ],
)
def test_real_files(
    shared_data: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    split: str,
    rows: int,
    traces: int,
) -> None:
    monkeypatch.setenv("IGPO_DATA_DIR", str(shared_data))
    problems = load_problems(conf(name), split)
    assert len(problems) == len({p.id for p in problems}) == rows
    assert sum(p.solution is not None for p in problems) == traces
    if name == "math500":
        assert {p.level for p in problems} == {1, 2, 3, 4, 5}


@pytest.mark.shared
@pytest.mark.parametrize(("name", "rows"), [("gsm8k", 7473), ("amc", 407)])
def test_real_train_files_give_train_and_validation(
    shared_data: Path, monkeypatch: pytest.MonkeyPatch, name: str, rows: int
) -> None:
    monkeypatch.setenv("IGPO_DATA_DIR", str(shared_data))
    train, held = ids(conf(name)), ids(conf(name), "validation")
    assert len(train) + len(held) == len({*train, *held}) == rows
    assert 0.02 * rows < len(held) < 0.08 * rows


@pytest.mark.shared
@pytest.mark.parametrize("split", ["test", "train"])
def test_the_answer_after_the_hashes_is_the_official_one(
    shared_data: Path, tmp_path: Path, split: str
) -> None:
    end = "test.jsonl" if split == "test" else "train.jsonl.gz"
    official = whole(path=str(shared_data / f"gsm8k.{end}"))
    taken = whole(path=official.path, answer_from="hash")
    for a, b in zip(load_problems(official, "train"), load_problems(taken, "train"), strict=True):
        assert a.answer == b.answer, a.id


@pytest.mark.shared
def test_the_last_box_is_the_official_answer(shared_data: Path) -> None:
    official = whole(path=str(shared_data / "math500.test.jsonl"))
    taken = whole(path=official.path, answer_from="box")
    pairs = zip(load_problems(official, "train"), load_problems(taken, "train"), strict=True)
    differ = [(a.id, a.answer, b.answer) for a, b in pairs if a.answer != b.answer]
    assert len(differ) <= 2, differ  # 99.5 % of 500 have to be the same


def test_long_traces_of_the_hub(repository: Path) -> None:
    """The layout of OpenR1-Math: several traces a problem, of which one is called right."""
    import datasets

    rows = [
        {
            "uuid": f"u{i}",
            "problem": f"q{i}",
            "answer": answer,
            "solution": "the human one",
            "generations": ["long a", "long b"],
            "correctness_math_verify": marks,
            "correctness_llama": judged,
            "messages": [{"role": "user", "content": "x"}],
        }
        for i, (answer, marks, judged) in enumerate(
            [
                ("1", [False, True], None),
                ("2", [False, False], [True, False]),
                ("3", [False, False], None),
                (None, [True, True], None),
            ]
        )
    ]
    datasets.Dataset.from_list(rows).to_parquet(repository / "data" / "train-0.parquet")
    source = conf("openr1_math")
    source = with_table(source, "train", repository=str(repository), config=None)
    source = replace(source, validation_share=0.0)
    found = [(p.id, p.question, p.solution, p.answer) for p in load_problems(source, "train")]
    assert found == [("u0", "q0", "long b", "1"), ("u1", "q1", "long a", "2")]
