"""stage=tokenizer on puzzles: the words of every wording become tokens of a tiny model."""

from pathlib import Path

import pytest

from igpo_lightning.models.tiny import TinyConfig
from igpo_lightning.models.tokenizer_files import load_tokenizer
from igpo_lightning.stages import run
from tests.composing import composed


@pytest.mark.parametrize(
    ("name", "split_digits", "words"),
    [("countdown", False, [" plus", " is", "boxed", "100"]), ("sudoku", True, [" row", "column"])],
)
def test_the_words_of_a_puzzle_are_tokens(
    name: str, split_digits: bool, words: list[str], tmp_path: Path
) -> None:
    sizes = ["stage.examples=40", "data.train_size=40", "stage.hidden_size=16"]
    sizes.append(f"stage.split_digits={split_digits}")
    done = run(composed("stage=tokenizer", f"data={name}", f"stage.output='{tmp_path}'", *sizes))
    tokenizer = load_tokenizer(str(tmp_path))
    assert done == {"tokens": len(tokenizer)}
    for word in words:
        assert len(tokenizer(word, add_special_tokens=False)["input_ids"]) == 1, word
    digits = tokenizer("1024", add_special_tokens=False)["input_ids"]
    assert (len(digits) == 4) == split_digits
    assert TinyConfig.from_pretrained(tmp_path).hidden_size == 16
