"""d1's score of a sudoku: right cells among the empty ones."""

import pytest

from igpo_lightning import compose
from igpo_lightning.evaluation.d1 import cell_accuracy, right_cells
from igpo_lightning.evaluation.measurements import measurements

PUZZLE, GOLD = "3102200002100320", "3142243142131324"  # eight empty cells


@pytest.mark.parametrize(
    ("text", "right"),
    [
        (f"<reasoning>row 1</reasoning><answer>{GOLD}</answer>", 8),
        ("<answer>3142 2431 4213 1323</answer>", 7),  # the last cell is wrong
        (f"<answer>1</answer><answer>{GOLD}9</answer>", 8),  # the last tag; what is over is cut
        ("<answer>3142</answer>", 1),  # the rest is filled with what is wrong
        (GOLD, 0),  # no tag
        ("<answer>none</answer>", 0),
    ],
)
def test_cells_are_counted(text: str, right: int) -> None:
    assert right_cells(PUZZLE, GOLD, text) == (right, 8)


def test_the_share_is_over_all_puzzles() -> None:
    samples = [
        {"question": f"Solve {PUZZLE} now", "answer": GOLD, "completion": text}
        for text in (f"<answer>{GOLD}</answer>", "")
    ]
    assert cell_accuracy(samples) == 0.5


def test_the_protocol_is_d1s() -> None:
    """Two tokens a step, blocks of 32, temperature 0, three lengths, the turn begun with a tag."""
    parts = measurements(compose(["experiment=eval_d1", "model=llada_8b"]))
    assert [part.name for part in parts] == [
        f"{name}_{length}" for length in (128, 256, 512) for name in ("countdown_d1", "sudoku_d1")
    ]
    for part in parts:
        sampler, config = part.config.sampler, part.config
        assert (sampler.steps, sampler.block_length) == (part.length // 2, 32)
        assert (config.eval.temperature, config.eval.samples) == (0.0, 1)
        assert (config.prompt.user, config.prompt.prefill) == ("{question}", "<reasoning>")
    countdown, sudoku = (part.config.data for part in parts[:2])
    assert countdown.question.endswith("</answer>\n\nNumbers: [{numbers}]\nTarget: {target}")
    assert sudoku.question.endswith("Solve the following Sudoku puzzle: {puzzle}\n")
