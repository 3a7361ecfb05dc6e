"""The table of forward passes in docs/models.md is what its command prints."""

from pathlib import Path


def test_the_documented_table_is_the_commands_output(pass_benchmark) -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "models.md").read_text()
    assert pass_benchmark.table() in text


def test_counts_by_hand(pass_benchmark) -> None:
    """128 passes over 128 + 256 tokens; SDAR runs the prompt, 2 steps of each of 64 blocks of 4,
    and each block but the last once more."""
    rows = {row.name: pass_benchmark.counted(row) for row in pass_benchmark.ROWS}
    (exact,), (static,) = rows["LLaDA, exact"], rows["SDAR, static"]
    assert (exact.forward_passes, exact.body_tokens) == (128, 128 * (128 + 256))
    assert static.forward_passes == 1 + 64 * 2 + 63
    assert static.body_tokens == 128 + 64 * 2 * 4 + 63 * 4
