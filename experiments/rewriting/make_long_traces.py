"""Writes the source of the rewriting experiment: long traces of the embedded task, and a student.

    python experiments/rewriting/make_long_traces.py runs/rewriting

OUTPUT/long/{train,test}.jsonl hold problems of level 1 in the common form. Every trace of train
states each intermediate result, doubts it, and states it again, as long traces of reasoning models
do; the answer comes at the end. OUTPUT/student is an untrained model whose tokenizer knows the
words of both kinds of traces, so that neither is longer for being unknown.
"""

import json
import random
import sys
from dataclasses import replace
from pathlib import Path

from igpo_lightning.data.problem import Problem
from igpo_lightning.data.synthetic import arithmetic_problems
from igpo_lightning.models.tiny import TinyConfig
from igpo_lightning.models.tokenizer import train_tokenizer

TRAIN, TEST, LEVEL = 6000, 256, 1
OPENINGS = ("Okay, so I need to work this out.", "Hmm, let me think.", "Let me see.")
DOUBTS = (
    "Wait, let me check that. {} Yes.",
    "Hmm, is that right? {} I think so.",
    "Let me double-check. {} That seems right.",
    "Actually, let me verify. {} Okay.",
)


def long_trace(problem: Problem) -> str:
    """The trace with an opening, and each result doubted once or twice and stated again."""
    draw = random.Random(f"long-{problem.id}")
    *steps, conclusion = (problem.solution or "").split()
    lines = [draw.choice(OPENINGS)]
    for step in steps:
        lines.append(f"{step}.")
        for doubt in draw.sample(DOUBTS, draw.randint(1, 2)):
            lines.append(doubt.format(f"{step}."))
    return "\n".join([*lines, conclusion])


def write(file: Path, problems: list[Problem]) -> None:
    """One JSON object a line, in the common form."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", encoding="utf-8") as lines:
        for p in problems:
            row = {"id": p.id, "question": p.question, "solution": p.solution, "answer": p.answer}
            lines.write(json.dumps(row) + "\n")


def main() -> None:
    """Write everything into the folder that the command line names."""
    output = Path(sys.argv[1])
    train = [
        replace(p, solution=long_trace(p)) for p in arithmetic_problems("train", TRAIN, [LEVEL])
    ]
    write(output / "long" / "train.jsonl", train)
    write(output / "long" / "test.jsonl", arithmetic_problems("test", TEST, [LEVEL]))
    texts = [text for p in train[:2000] for text in (p.question, p.solution or "")]
    tokenizer = train_tokenizer(texts, 512)
    student = output / "student"
    tokenizer.save_pretrained(student)
    TinyConfig(
        vocab_size=-(-len(tokenizer) // 8) * 8,
        mask_token_id=tokenizer.mask_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        hidden_size=64,
        intermediate_size=192,
        num_hidden_layers=2,
        num_attention_heads=4,
    ).save_pretrained(student)


if __name__ == "__main__":
    main()
