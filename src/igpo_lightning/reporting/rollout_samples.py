"""Training samples for people: JSON records that a viewer can draw, and a table for TensorBoard."""

from collections.abc import Iterable, Sequence
from typing import Any

from transformers import PreTrainedTokenizerFast

from igpo_lightning.data.collate import PromptBatch
from igpo_lightning.evaluation.records import token_strings
from igpo_lightning.rl.rollout import Rollout
from igpo_lightning.runs.tensorboard import log_text

TABLE_ROWS = 16  # of the TensorBoard table, so that the event file stays small


def rollout_records(
    batch: PromptBatch,
    rollout: Rollout,
    tokenizer: PreTrainedTokenizerFast,
    reward_names: Sequence[str],
) -> list[dict[str, Any]]:
    """One JSON-ready record for each row; token lists run over the whole completion."""
    records = []
    for row, text in enumerate(rollout.texts):
        encoded = batch.problems[row // rollout.group_size]
        ids = rollout.completion_ids[row].tolist()
        parts = rollout.reward_parts[row].tolist()
        records.append(
            {
                "step": batch.step,
                "id": encoded.problem.id,
                "group": row // rollout.group_size,
                "sample": row % rollout.group_size,
                "question": encoded.problem.question,
                "prompt": tokenizer.decode(encoded.prompt_ids),
                "trace": encoded.problem.solution,
                "answer": encoded.problem.answer,
                "completion": text,
                "tokens": token_strings(ids, tokenizer),
                "hint_mask": rollout.hint_mask[row].tolist(),
                "unmask_step": rollout.unmask_step[row].tolist(),
                "hint": tokenizer.decode(
                    rollout.completion_ids[row][rollout.hint_mask[row]].tolist()
                ),
                "replaced": bool(rollout.replaced[row]),
                "correct": bool(rollout.correct[row]),
                "reason": rollout.reasons[row],
                "reward": float(rollout.rewards[row]),
                "reward_parts": dict(zip(reward_names, parts, strict=True)),
            }
        )
    return records


def marked_completion(record: dict[str, Any]) -> str:
    """The completion up to its end, in Markdown, hints in bold."""
    shown: list[str] = []
    bold, length = False, 0
    for token, hint in zip(record["tokens"], record["hint_mask"], strict=True):
        if length >= len(record["completion"]):
            break
        length += len(token)
        if hint != bold:
            shown.append("**")
            bold = hint
        shown.append(token)
    if bold:
        shown.append("**")
    return _cell("".join(shown))


def _cell(text: str) -> str:
    """Text that does not break a Markdown table."""
    return text.replace("|", "\\|").replace("\n", " ")


def sample_table(records: Sequence[dict[str, Any]]) -> str:
    """A Markdown table of samples, hints in bold."""
    lines = [
        "| id | sample | right | reward | replaced | completion |",
        "|---|---|---|---|---|---|",
    ]
    for record in records[:TABLE_ROWS]:
        right = "yes" if record["correct"] else f"no ({record['reason']})"
        cells = (
            _cell(str(record["id"])),
            str(record["sample"]),
            right,
            f"{record['reward']:.2f}",
            "yes" if record["replaced"] else "",
            marked_completion(record),
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def log_sample_table(
    loggers: Iterable[object], step: int, records: Sequence[dict[str, Any]]
) -> None:
    """Show the samples of a step where a logger takes text."""
    log_text(loggers, "samples", sample_table(records), step)
