"""From a problem to tokens: the prompt a model sees, and the trace that hints and SFT come from."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

from transformers import PreTrainedTokenizerFast

from igpo_lightning.data.problem import Problem
from igpo_lightning.errors import ConfigError
from igpo_lightning.models.chat_template import render
from igpo_lightning.rewards.answer_span import find_answer_span
from igpo_lightning.settings import PromptConfig

# GSM8K writes `48/2 = <<48/2=24>>24`: marks for a calculator, which say every result twice.
_CALCULATOR_MARK = re.compile(r"<<[^<>\n]*>>")
PLAIN = PromptConfig()


@dataclass(frozen=True)
class EncodedProblem:
    """A problem as the model meets it.

    Attributes:
        problem: Where it comes from.
        prompt_ids: P token ids of the chat-formatted question.
        trace_ids: Token ids of the true completion without EOS, or None where the source has no
            trace.
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


def encode_chat(
    question: str,
    template: str,
    tokenizer: PreTrainedTokenizerFast,
    chat: bool | None = None,
    prefill: str = "",
) -> list[int]:
    """Token ids of a user turn that waits for the assistant, by the tokenizer's chat template.

    Args:
        chat: False gives the bare text, for base models without turns; None does where the
            tokenizer has no chat template.
        prefill: What the assistant's turn begins with.

    Raises:
        ConfigError: `chat` is True and the tokenizer has no chat template, or the template fails.
    """
    text = render_prompt(question, template)
    if chat or (chat is None and tokenizer.chat_template):
        if not tokenizer.chat_template:
            raise ConfigError(
                "prompt.chat=true: this model's tokenizer has no chat template; use an "
                "instruction-tuned model, or prompt.chat=false for the bare text"
            )
        turns = [{"role": "user", "content": text}]
        text = render(tokenizer, turns, add_generation_prompt=True)
    ids: list[int] = tokenizer(text + prefill, add_special_tokens=False)["input_ids"]
    return ids


def cut_prompt(
    question: str, form: PromptConfig, tokenizer: PreTrainedTokenizerFast
) -> list[int] | None:
    """A prompt of at most `form.max_length` tokens: the question loses its beginning.

    The template around it stays whole, and so does the question's end, which says what is asked.
    None where even the template is too long.
    """
    encoding = tokenizer(question, add_special_tokens=False, return_offsets_mapping=True)
    starts = [start for start, _ in encoding["offset_mapping"]]
    dropped = 0
    while dropped <= len(starts):
        rest = question[starts[dropped] :] if dropped < len(starts) else ""
        ids = encode_chat(rest, form.user, tokenizer, form.chat, form.prefill)
        if len(ids) <= form.max_length:
            return ids
        dropped += len(ids) - form.max_length
    return None


def encode_trace(
    text: str, span: tuple[int, int], tokenizer: PreTrainedTokenizerFast
) -> tuple[list[int], tuple[int, int]]:
    """Token ids of a trace, and the tokens that overlap the character span."""
    encoding = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids: list[int] = encoding["input_ids"]
    touched = [i for i, (a, b) in enumerate(encoding["offset_mapping"]) if b > span[0]]
    return ids, (touched[0] if touched else len(ids), len(ids))


def encode_problem(
    problem: Problem, tokenizer: PreTrainedTokenizerFast, form: PromptConfig = PLAIN
) -> EncodedProblem:
    """One problem as tokens, whatever its length: its prompt, trace and answer span.

    Args:
        form: Templates; the default asks the bare question in the model's chat template.

    Raises:
        ConfigError: The tokenizer has no chat template.
    """
    prompt_ids = encode_chat(problem.question, form.user, tokenizer, form.chat, form.prefill)
    rendered = render_trace(problem, form.completion)
    if rendered is None:
        return EncodedProblem(problem, prompt_ids, None, None)
    trace_ids, answer_span = encode_trace(*rendered, tokenizer)
    return EncodedProblem(problem, prompt_ids, trace_ids, answer_span)


def cut_trace(encoded: EncodedProblem, length: int) -> EncodedProblem:
    """The problem with its trace's first `length` tokens."""
    if encoded.trace_ids is None or encoded.answer_span is None:
        return encoded
    start, end = (min(place, length) for place in encoded.answer_span)
    return replace(encoded, trace_ids=encoded.trace_ids[:length], answer_span=(start, end))


def encode_problems(
    problems: Iterable[Problem],
    tokenizer: PreTrainedTokenizerFast,
    form: PromptConfig,
    max_trace: int | None = None,
    keep_long: bool = False,
) -> tuple[list[EncodedProblem], Counter[str]]:
    """Encode problems; what is too long is dropped or cut, and counted.

    The counts are of `problems`, of `traces` among those whose prompt fits or was cut, and of
    `long_prompts` and `long_traces`, which are over the limit.

    Args:
        max_trace: Tokens of a completion; None leaves traces as they are (evaluation, where a
            trace has no part and must not decide which problems are asked).
        keep_long: Count traces that are too long, and leave them whole: a later step decides.

    Raises:
        ConfigError: The tokenizer has no chat template.
    """
    kept: list[EncodedProblem] = []
    counts: Counter[str] = Counter()
    for problem in problems:
        counts["problems"] += 1
        encoded = encode_problem(problem, tokenizer, form)
        if len(encoded.prompt_ids) > form.max_length:
            counts["long_prompts"] += 1
            shorter = None
            if form.long_prompts == "cut":
                shorter = cut_prompt(problem.question, form, tokenizer)
            if shorter is None:
                continue
            encoded = replace(encoded, prompt_ids=shorter)
        trace = encoded.trace_ids
        counts["traces"] += trace is not None
        if max_trace is not None and trace is not None and len(trace) > max_trace:
            counts["long_traces"] += 1
            if not keep_long:
                encoded = cut_trace(encoded, max_trace)
        kept.append(encoded)
    return kept, counts
