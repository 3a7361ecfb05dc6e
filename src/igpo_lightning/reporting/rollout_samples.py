"""Training samples for people: a table for TensorBoard, from the records of rollouts."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

from igpo_lightning.reporting.tables import markdown_table
from igpo_lightning.reporting.viewer_samples import live_tokens
from igpo_lightning.runs.tensorboard import boards

TABLE_ROWS = 16  # of the TensorBoard table, so that the event file stays small


def marked_completion(record: dict[str, Any]) -> str:
    """The completion up to its end, in Markdown, hints in bold."""
    live = live_tokens(record["tokens"], record["completion"])
    marked = list(zip(record["tokens"], record["hint_mask"], strict=True))[:live]
    parts = [
        (hint, "".join(token for token, _ in tokens))
        for hint, tokens in groupby(marked, key=lambda pair: pair[1])
    ]
    return "".join(f"**{text}**" if hint else text for hint, text in parts)


def sample_table(records: Sequence[dict[str, Any]]) -> str:
    """A Markdown table of samples, hints in bold."""
    rows = [
        [
            str(record["id"]),
            str(record["sample"]),
            "yes" if record["correct"] else f"no ({record['reason']})",
            f"{record['reward']:.2f}",
            "yes" if record["replaced"] else "",
            marked_completion(record),
        ]
        for record in records[:TABLE_ROWS]
    ]
    return markdown_table(["id", "sample", "right", "reward", "replaced", "completion"], rows)


def log_sample_table(
    loggers: Iterable[object], step: int, records: Sequence[dict[str, Any]]
) -> None:
    """Show the samples of a step where a logger takes text."""
    for board in boards(loggers):
        board.experiment.add_text("samples", sample_table(records), step)
