"""Rollouts as JSON-ready records, from which a viewer and tables are drawn."""

from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedTokenizerFast

from igpo_lightning.data.collate import PromptBatch
from igpo_lightning.evaluation.records import token_strings
from igpo_lightning.rl.rollout import Rollout


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
