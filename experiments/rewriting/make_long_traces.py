"""Writes the source of the rewriting experiment: the embedded task with long traces.

    python experiments/rewriting/make_long_traces.py OUTPUT

OUTPUT/original/{train,test}.jsonl hold problems of level 3 in the common form. Every trace of train
states each intermediate result, doubts it, and states it again, as long traces of reasoning models
do; the answer comes at the end.
"""

import json
import random
import sys
from dataclasses import replace
from pathlib import Path

from igpo_lightning.data.problem import Problem
from igpo_lightning.data.synthetic import arithmetic_problems

TRAIN, TEST, LEVEL = 6000, 256, 3
OPENINGS = ("Hmm.", "Okay, so", "Let me see.")
DOUBTS = ("Wait, {}? Yes.", "Hmm, {}.", "Let me check: {}.", "Actually, {}? Okay.")


def long_trace(problem: Problem) -> str:
    """The trace with an opening, and each result doubted once and stated again."""
    draw = random.Random(f"long-{problem.id}")
    *steps, conclusion = (problem.solution or "").split("; ")
    lines = [draw.choice(OPENINGS)]
    for step in steps:
        lines += [step, draw.choice(DOUBTS).format(step)]
    return "\n".join([*lines, conclusion])


def write(file: Path, problems: list[Problem]) -> None:
    """One JSON object per line, in the common form."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", encoding="utf-8") as lines:
        for p in problems:
            row = {"id": p.id, "question": p.question, "solution": p.solution, "answer": p.answer}
            lines.write(json.dumps(row) + "\n")


def main() -> None:
    """Write both files into the folder that the command line names."""
    output = Path(sys.argv[1])
    train = [
        replace(p, solution=long_trace(p)) for p in arithmetic_problems("train", TRAIN, [LEVEL])
    ]
    write(output / "original" / "train.jsonl", train)
    write(output / "original" / "test.jsonl", arithmetic_problems("test", TEST, [LEVEL]))


if __name__ == "__main__":
    main()
