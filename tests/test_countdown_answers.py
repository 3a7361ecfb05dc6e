"""What is counted in Countdown's answers, by hand."""

import pytest
from countdown_answers import shares


def answer(completion: str, correct: bool = False) -> dict[str, object]:
    return {"completion": completion, "correct": correct}


def test_boxes_right_answers_and_right_operations() -> None:
    answers = [
        answer(r"30+100=130; 130-93=37 \boxed{30+100-93}", correct=True),  # both are right
        answer(r"30*2=61; \boxed{30*2}"),  # a wrong value
        answer("8/3=2; 8-3=5"),  # 8/3 is no whole number, 8-3 is right; no box
        answer("7/0=7"),  # nothing is divided by zero
    ]
    boxed, right, operations = shares(answers)
    assert boxed == pytest.approx(2 / 4)
    assert right == pytest.approx(1 / 2)
    assert operations == pytest.approx(3 / 6)


def test_answers_without_boxes_and_operations_are_none_of_none() -> None:
    assert shares([answer("I do not know")]) == (0.0, 0.0, 0.0)
