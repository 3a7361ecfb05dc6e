"""What is kept of each sample of an evaluation: enough to read it, and to replay its denoising."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from transformers import PreTrainedTokenizerFast

from igpo_lightning.data.prompts import EncodedProblem
from igpo_lightning.diffusion.forward_process import live_mask
from igpo_lightning.diffusion.sampler import DenoiseOutput
from igpo_lightning.rewards import Verdict


def token_strings(ids: Sequence[int], tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """The text that each token adds; a character of several tokens appears with its last one.

    Each is decoded behind the ones before it, since WordPiece and SentencePiece leave out the space
    before a text's first word; behind these alone, so that time is linear.
    """

    def decoded(first: int, stop: int) -> str:
        return str(tokenizer.decode(list(ids[first:stop]), clean_up_tokenization_spaces=False))

    strings: list[str] = []
    before = shown = 0  # what is shown ends at `shown`; its last part begins at `before`
    for stop in range(1, len(ids) + 1):
        text = decoded(before, stop)
        if text.endswith("\ufffd") and stop < len(ids) and stop - shown < 4:
            strings.append("")
            continue
        strings.append(text[len(decoded(before, shown)) if shown > before else 0 :])
        before, shown = shown, stop
    return strings


def replays(
    output: DenoiseOutput, tokenizer: PreTrainedTokenizerFast, eos_token_id: int
) -> list[dict[str, Any]]:
    """How each row was denoised: text, hint and step of its tokens, up to and with its first EOS.

    The fields are those of a rollout's record. What follows the EOS is left out: over a thousand
    problems it would be most of the file, and it says nothing.
    """
    live = live_mask(output.completion_ids, eos_token_id)
    return [
        {
            "tokens": token_strings(ids[kept].tolist(), tokenizer),
            "hint_mask": hints[kept].tolist(),
            "unmask_step": steps[kept].tolist(),
        }
        for ids, hints, steps, kept in zip(
            output.completion_ids, output.hint_mask, output.unmask_step, live, strict=True
        )
    ]


def evaluation_record(
    encoded: EncodedProblem, prompt: str, sample: int, text: str, verdict: Verdict
) -> dict[str, Any]:
    """One sample of an evaluation, JSON-ready; `replays` adds how it came about.

    `prompt` is all that the model saw, `text` the completion up to its end.
    """
    problem = encoded.problem
    return {
        "id": problem.id,
        "sample": sample,
        "level": problem.level,
        "question": problem.question,
        "prompt": prompt,
        "trace": problem.solution,
        "answer": problem.answer,
        "completion": text,
        **asdict(verdict),
    }
