"""Problems from Python: by a data configuration, the name of one, or a file."""

import json
from pathlib import Path

import pytest

from igpo_lightning import compose
from igpo_lightning.data import load_problems
from igpo_lightning.errors import ConfigError
from igpo_lightning.settings import DataConfig
from igpo_lightning.stages.problems import read_problems


def test_a_file_is_read_by_its_path(tmp_path: Path) -> None:
    """One file gives a share to its evaluation: no row is in both, and none is lost."""
    file = tmp_path / "own.jsonl"
    rows = [{"question": f"{i} + 1?", "answer": str(i + 1)} for i in range(20)]
    file.write_text("\n".join(map(json.dumps, rows)))
    train, test = (load_problems(str(file), split) for split in ("train", "test"))
    assert train
    assert test
    assert {int(p.answer) for p in train + test} == set(range(1, 21))
    assert len(train) + len(test) == 20


def test_a_name_is_that_of_a_data_configuration() -> None:
    problems = load_problems("arithmetic", "test")
    assert len(problems) == 512  # data.eval_size
    assert {p.level for p in problems} == {1, 2, 3, 4}
    with pytest.raises(ConfigError, match="there is no data=arithmetics; use one of"):
        load_problems("arithmetics")


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_a_configuration_gives_what_a_run_reads(split: str) -> None:
    settings = compose(["data.train_size=16", "data.eval_size=8"])
    assert load_problems(settings.data, split) == read_problems(settings, split)


def test_a_mixture_is_refused_with_its_parts() -> None:
    with pytest.raises(ConfigError, match="a mixture of several sources; load each: gsm8k, math"):
        load_problems(DataConfig(name="both", parts=("gsm8k", "math")))
