"""What the model sees, and what happens to what is too long."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from transformers import PreTrainedTokenizerFast

from igpo_lightning.data.problem import Problem
from igpo_lightning.data.prompts import (
    cut_prompt,
    encode_chat,
    encode_problem,
    encode_problems,
    render_trace,
)
from igpo_lightning.errors import ConfigError
from igpo_lightning.models.tokenizer import train_tokenizer
from igpo_lightning.settings import PromptConfig

CONF = Path(__file__).resolve().parents[2] / "conf" / "prompt"
PLAIN = PromptConfig(user="{question}", completion="{solution}", max_length=600)


def form(name: str) -> PromptConfig:
    values = OmegaConf.to_container(OmegaConf.load(CONF / f"{name}.yaml"))
    return PromptConfig(**values)


def problem(question: str = "What is 2+3?", solution: str | None = "2+3 = 5.") -> Problem:
    return Problem("p", question, solution, "5")


@pytest.mark.parametrize(
    ("name", "prompt", "completion"),
    [
        ("none", "<|user|>What is 2+3?<|assistant|>", "2+3 = 5."),
        (
            "boxed",
            "<|user|>What is 2+3?\nPut the final answer in \\boxed{}.<|assistant|>",
            "2+3 = 5.\n\\boxed{5}",
        ),
        (
            "reasoning",
            "<|user|>What is 2+3?\nReason step by step inside <reasoning></reasoning>, then give "
            "the final answer as <answer>\\boxed{}</answer>.<|assistant|>",
            "<reasoning>\n2+3 = 5.\n</reasoning>\n<answer>\n\\boxed{5}\n</answer>",
        ),
    ],
)
def test_the_shipped_templates(
    tokenizer: PreTrainedTokenizerFast, name: str, prompt: str, completion: str
) -> None:
    encoded = encode_problem(problem(), tokenizer, form(name))
    assert tokenizer.decode(encoded.prompt_ids) == prompt
    assert tokenizer.decode(encoded.trace_ids) == completion


@pytest.mark.parametrize("name", ["boxed", "reasoning"])
def test_the_answer_span_covers_every_statement_of_the_answer(
    tokenizer: PreTrainedTokenizerFast, name: str
) -> None:
    encoded = encode_problem(problem(), tokenizer, form(name))
    assert encoded.trace_ids is not None
    assert encoded.answer_span is not None
    hintable = tokenizer.decode(encoded.trace_ids[: encoded.answer_span[0]])
    assert "5" not in hintable
    assert "2+3" in hintable


def test_braces_of_questions_and_solutions_stay() -> None:
    given = Problem("p", "{answer}", r"\frac{1}{2} {question}", r"\frac{1}{2}")
    rendered = render_trace(given, "{solution} \\boxed{{answer}}")
    assert rendered is not None
    assert rendered[0] == r"\frac{1}{2} {question} \boxed{\frac{1}{2}}"


def test_calculator_marks_are_left_out() -> None:
    rendered = render_trace(problem(solution="48/2 = <<48/2=24>>24"), "{solution}")
    assert rendered is not None
    assert rendered[0] == "48/2 = 24"


def test_without_a_chat_template() -> None:
    bare = train_tokenizer(["abc"], 270)
    bare.chat_template = None
    with pytest.raises(ConfigError, match=r"prompt\.chat=false"):
        encode_chat("What?", "{question}", bare, chat=True)
    assert bare.decode(encode_chat("What?", "{question}", bare)) == "What?"
    assert bare.decode(encode_chat("What?", "{question}", bare, chat=False)) == "What?"


@settings(max_examples=25, deadline=None)
@given(limit=st.integers(1, 60))
def test_a_cut_prompt_keeps_the_template_and_the_questions_end(
    tokenizer: PreTrainedTokenizerFast, limit: int
) -> None:
    question = "Once upon a time there were 12 apples and 34 pears in a bowl. How many are there?"
    plain = PromptConfig("Q: {question} A:", "{solution}", limit)
    shell = len(encode_chat("", plain.user, tokenizer))
    ids = cut_prompt(question, plain, tokenizer)
    if limit < shell:
        assert ids is None
        return
    assert ids is not None
    text = str(tokenizer.decode(ids))
    assert text.startswith("<|user|>Q: ")
    assert text.endswith(" A:<|assistant|>")
    assert question.endswith(text.removeprefix("<|user|>Q: ").removesuffix(" A:<|assistant|>"))
    # No more is lost than has to be: at most a few tokens, where tokens join anew at the cut.
    assert limit - 4 <= len(ids) <= limit


def test_long_prompts_are_dropped_or_cut_and_counted(tokenizer: PreTrainedTokenizerFast) -> None:
    problems = [problem(), problem("word " * 50 + "What is 2+3?")]
    dropped, counts = encode_problems(problems, tokenizer, PromptConfig("{question}", "", 30))
    assert counts == Counter(problems=2, traces=1, long_prompts=1)
    assert len(dropped) == 1
    cutting = PromptConfig("{question}", "", 30, long_prompts="cut")
    kept, counts = encode_problems(problems, tokenizer, cutting)
    assert counts == Counter(problems=2, traces=2, long_prompts=1)
    assert str(tokenizer.decode(kept[1].prompt_ids)).endswith("What is 2+3?<|assistant|>")
    assert len(kept[1].prompt_ids) <= 30


def test_long_traces_are_cut_and_counted(tokenizer: PreTrainedTokenizerFast) -> None:
    problems = [problem(), problem(solution="so " * 40 + "5"), problem(solution=None)]
    cut, counts = encode_problems(problems, tokenizer, PLAIN, max_trace=12)
    assert counts == Counter(problems=3, traces=2, long_traces=1)
    assert [None if e.trace_ids is None else len(e.trace_ids) for e in cut][1:] == [12, None]
    assert cut[1].answer_span == (12, 12)  # the answer is past the cut: nothing to keep from hints


def test_traces_do_not_decide_what_is_asked(tokenizer: PreTrainedTokenizerFast) -> None:
    problems = [problem(solution="so " * 40)]
    kept, counts = encode_problems(problems, tokenizer, PLAIN, max_trace=None)
    assert kept[0].trace_ids is not None
    assert len(kept[0].trace_ids) > 40
    assert counts == Counter(problems=1, traces=1)


def test_a_prefill_begins_the_assistants_turn() -> None:
    tokenizer = train_tokenizer(["What is 2+3?"], 300)
    plain = encode_chat("What is 2+3?", "{question}", tokenizer)
    begun = encode_chat("What is 2+3?", "{question}", tokenizer, prefill="<reasoning>")
    assert begun[: len(plain)] == plain
    assert tokenizer.decode(begun[len(plain) :]) == "<reasoning>"
