"""Training samples for people: a table for TensorBoard, from the records of rollouts."""

from collections.abc import Iterable, Sequence
from typing import Any

from igpo_lightning.runs.tensorboard import log_text

TABLE_ROWS = 16  # of the TensorBoard table, so that the event file stays small


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
