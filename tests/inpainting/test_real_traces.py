"""Hints from real GSM8K and MATH traces: the final answer is never given."""

import gzip
import json
import re
from pathlib import Path

import pytest
import torch

from igpo_lightning.data.problem import Problem
from igpo_lightning.data.prompts import encode_problem
from igpo_lightning.inpainting import choose_hints
from igpo_lightning.inpainting.hints import FREE
from igpo_lightning.models.tokenizer import train_tokenizer
from igpo_lightning.rewards import is_equivalent
from igpo_lightning.rewards.extraction import STRATEGIES
from igpo_lightning.settings import PromptConfig

FORM = PromptConfig("{question}", "{solution}", max_length=10_000)
COUNT = 60


def problems(folder: Path, name: str) -> list[Problem]:
    opener = gzip.open if name.endswith(".gz") else open
    with opener(folder / name, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for _, line in zip(range(COUNT), file, strict=False)]
    return [Problem(r["id"], r["question"], r["solution"], str(r["answer"])) for r in rows]


@pytest.mark.shared
@pytest.mark.parametrize("name", ["gsm8k.test.jsonl", "math.train.jsonl.gz"])
def test_no_hint_shows_the_final_statement(shared_data, name):
    """At ratio 1 all that may be given is given: it must end before the answer's statement.

    In GSM8K that is the line `#### N` and an equation right before it that ends in N; in MATH the
    sentence of the box. Earlier mentions of the same number are part of the reasoning.
    """
    rows = problems(shared_data, name)
    tokenizer = train_tokenizer([r.question for r in rows], 400)
    for row in rows:
        encoded = encode_problem(row, tokenizer, FORM)
        assert encoded.trace_ids is not None
        hints = choose_hints(
            encoded.trace_ids,
            len(encoded.trace_ids),
            1.0,
            5,
            10,
            torch.Generator().manual_seed(0),
            encoded.answer_span,
        )
        shown = tokenizer.decode(hints[hints != FREE].tolist())
        assert "####" not in shown, row.id
        assert "\\boxed" not in shown, row.id
        marked = STRATEGIES["stated"](shown)
        assert marked is None or not is_equivalent(row.answer, marked), row.id
        # What stands right before the free end does not already say "= answer".
        assert not re.search(r"=\s*\$?" + re.escape(row.answer) + r"\s*$", shown), row.id
        # What is given is a beginning of the trace.
        assert shown == tokenizer.decode(encoded.trace_ids)[: len(shown)], row.id


@pytest.mark.shared
def test_most_of_a_trace_can_be_given(shared_data):
    """Leaving out the answer must not leave out the reasoning: over half of it, on average."""
    rows = problems(shared_data, "gsm8k.test.jsonl")
    tokenizer = train_tokenizer([r.question for r in rows], 400)
    shares = []
    for row in rows:
        encoded = encode_problem(row, tokenizer, FORM)
        assert encoded.trace_ids is not None
        assert encoded.answer_span is not None
        start, end = encoded.answer_span
        shares.append(1 - (end - start) / len(encoded.trace_ids))
    assert sum(shares) / len(shares) > 0.5
