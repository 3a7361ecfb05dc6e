"""From a problem to tokens: the prompt a model sees, and the trace that hints and SFT come from."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from transformers import PreTrainedTokenizerFast

from igpo_lightning.data.problem import Problem
from igpo_lightning.rewards.answer_span import find_answer_span

# GSM8K writes `48/2 = <<48/2=24>>24`: marks for a calculator, which say every result twice.
_CALCULATOR_MARK = re.compile(r"<<[^<>\n]*>>")


@dataclass(frozen=True)
class EncodedProblem:
    """A problem as the model meets it.

    Attributes:
        problem: Where it comes from.
        prompt_ids: The chat-formatted question.
        trace_ids: The true completion without EOS, or None where the source has no trace.
        answer_span: Tokens [start, end) of the trace that give the final answer away; hints never
            touch them.
    """

    problem: Problem
    prompt_ids: list[int]
    trace_ids: list[int] | None
    answer_span: tuple[int, int] | None


def render_prompt(question: str, template: str) -> str:
    """The user's turn; `{question}` in the template is replaced."""
    return template.replace("{question}", question)


def render_trace(problem: Problem, template: str) -> tuple[str, tuple[int, int]] | None:
    """The true completion and the characters [start, end) of it that give the answer away.

    The span reaches from the first mention of the answer in the final statement to the end of the
    text. Where the solution itself never states its answer, only what the template adds is in it.
    """
    if problem.solution is None:
        return None
    solution = _CALCULATOR_MARK.sub("", problem.solution).strip()
    before, marker, after = template.partition("{solution}")
    before, after = (part.replace("{answer}", problem.answer) for part in (before, after))
    text = before + (solution if marker else "") + after
    given_away = find_answer_span(solution, problem.answer)
    start = len(before) + (given_away[0] if given_away else len(solution))
    return text, (start, len(text))


def encode_chat(question: str, template: str, tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """Token ids of a user turn that waits for the assistant, by the tokenizer's chat template."""
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": render_prompt(question, template)}],
        tokenize=False,
        add_generation_prompt=True,
    )
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def encode_trace(
    text: str, span: tuple[int, int], tokenizer: PreTrainedTokenizerFast
) -> tuple[list[int], tuple[int, int]]:
    """Token ids of a trace, and the tokens that overlap the character span."""
    encoding = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids: list[int] = encoding["input_ids"]
    touched = [i for i, (a, b) in enumerate(encoding["offset_mapping"]) if b > span[0]]
    return ids, (touched[0] if touched else len(ids), len(ids))


def encode_problem(
    problem: Problem,
    tokenizer: PreTrainedTokenizerFast,
    prompt_template: str,
    trace_template: str,
) -> EncodedProblem:
    """Encode one problem; templates as in conf/prompt."""
    prompt_ids = encode_chat(problem.question, prompt_template, tokenizer)
    rendered = render_trace(problem, trace_template)
    if rendered is None:
        return EncodedProblem(problem, prompt_ids, None, None)
    trace_ids, answer_span = encode_trace(*rendered, tokenizer)
    return EncodedProblem(problem, prompt_ids, trace_ids, answer_span)


def encode_problems(
    problems: Iterable[Problem],
    tokenizer: PreTrainedTokenizerFast,
    prompt_template: str,
    trace_template: str,
    max_prompt_length: int,
) -> tuple[list[EncodedProblem], int]:
    """Encode problems; those whose prompt is too long are dropped and counted."""
    encoded = [encode_problem(p, tokenizer, prompt_template, trace_template) for p in problems]
    kept = [e for e in encoded if len(e.prompt_ids) <= max_prompt_length]
    return kept, len(encoded) - len(kept)
