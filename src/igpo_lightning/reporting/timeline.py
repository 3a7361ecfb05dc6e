"""The timeline of a step, drawn from the trace that torch.profiler wrote.

The trace itself opens in https://ui.perfetto.dev and in Chrome's tracing page.
"""

import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from igpo_lightning.reporting.plots import BLUE, GREEN, ORANGE, PURPLE, STYLE

FOLDER = "profile"  # within a run's folder
PICTURE = "timeline.png"
DEVICE = "device"  # the lane of a GPU's kernels
COLOURS = (BLUE, ORANGE, GREEN, PURPLE)

Spans = dict[str, list[tuple[float, float]]]  # lane: (start, length) in seconds


def read_spans(trace: Mapping[str, Any], names: Sequence[str]) -> Spans:
    """The spans of a trace, from 0: those that the program named, and a GPU's kernels.

    Args:
        trace: In Chrome's format, times in microseconds.
        names: Of `torch.profiler.record_function`, in the order of their lanes.
    """
    found: Spans = {name: [] for name in (*names, DEVICE)}
    for event in trace["traceEvents"]:
        if event.get("ph") != "X":
            continue
        kind, name = event.get("cat"), event["name"]
        lane = name if kind == "user_annotation" else DEVICE if kind == "kernel" else None
        if lane in found:
            found[lane].append((event["ts"] / 1e6, event["dur"] / 1e6))
    begin = min((start for spans in found.values() for start, _ in spans), default=0.0)
    return {
        lane: sorted((start - begin, length) for start, length in spans)
        for lane, spans in found.items()
        if spans
    }


def draw_timeline(folder: Path, names: Sequence[str]) -> Path | None:
    """Draw the newest trace in a folder; None where there is none."""
    traces = sorted(folder.glob("*.pt.trace.json*"), key=lambda file: file.stat().st_mtime)
    if not traces:
        return None
    data = traces[-1].read_bytes()
    text = gzip.decompress(data) if traces[-1].suffix == ".gz" else data
    spans = read_spans(json.loads(text), names)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(9, 0.8 + 0.4 * len(spans)))
        beside = axes.get_yaxis_transform()
        for lane, bars in enumerate(spans.values()):
            axes.broken_barh(bars, (lane - 0.35, 0.7), color=COLOURS[lane % len(COLOURS)])
            share = sum(length for _, length in bars)
            axes.text(1.01, lane, f"{share:.2f} s", transform=beside, va="center")
        axes.set_yticks(range(len(spans)), list(spans))
        axes.invert_yaxis()
        axes.set_xlabel("seconds of the step")
        figure.savefig(folder / PICTURE, dpi=150, bbox_inches="tight")
        plt.close(figure)
    return folder / PICTURE
