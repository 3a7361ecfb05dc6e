"""The picture of a step's trace: whose spans it has, and from where they count."""

import gzip
import json
from pathlib import Path
from typing import Any

from igpo_lightning.reporting.timeline import PICTURE, draw_timeline, read_spans


def event(name: str, kind: str, start: int, length: int) -> dict[str, Any]:
    return {"ph": "X", "name": name, "cat": kind, "ts": start, "dur": length}


TRACE = {
    "traceEvents": [
        event("update", "user_annotation", 5_000_000, 2_000_000),
        event("rollout", "user_annotation", 1_000_000, 3_000_000),
        event("rollout", "user_annotation", 4_000_000, 500_000),
        event("gemm", "kernel", 1_500_000, 1_000_000),
        event("aten::mm", "cpu_op", 0, 9_000_000),
        event("other", "user_annotation", 0, 9_000_000),
        {"ph": "M", "name": "process_name"},
    ]
}


def test_spans_are_those_that_were_named_and_the_kernels() -> None:
    """Seconds from the first of them, at 1 s of the trace."""
    assert read_spans(TRACE, ("rollout", "hints", "update")) == {
        "rollout": [(0.0, 3.0), (3.0, 0.5)],
        "update": [(4.0, 2.0)],
        "device": [(0.5, 1.0)],
    }


def test_the_newest_trace_becomes_a_picture(tmp_path: Path) -> None:
    assert draw_timeline(tmp_path, ("rollout",)) is None
    data = gzip.compress(json.dumps(TRACE).encode())
    (tmp_path / "host_1.pt.trace.json.gz").write_bytes(data)
    assert draw_timeline(tmp_path, ("rollout",)) == tmp_path / PICTURE
    assert (tmp_path / PICTURE).read_bytes().startswith(b"\x89PNG")
