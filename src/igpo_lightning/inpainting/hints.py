"""Hints from a ground-truth trace (arXiv 2509.10396, Algorithm 1, lines on chunking)."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

FREE = -1


def _randint(low: int, high: int, generator: torch.Generator) -> int:
    """An integer in [low, high], both ends included."""
    return int(torch.randint(low, high + 1, (), generator=generator))


def draw_ratio(low: float, high: float, generator: torch.Generator) -> float:
    """The hint ratio eta ~ U[low, high] of one sample."""
    return low + (high - low) * float(torch.rand((), dtype=torch.float64, generator=generator))


def chunk_trace(
    length: int, min_size: int, max_size: int, generator: torch.Generator
) -> list[tuple[int, int]]:
    """Cut [0, length) into contiguous chunks (start, end), sizes ~ U[min_size, max_size] tokens.

    The last chunk takes what is left and may be shorter than `min_size`: no token is lost.
    """
    chunks = []
    start = 0
    while start < length:
        end = min(start + _randint(min_size, max_size, generator), length)
        chunks.append((start, end))
        start = end
    return chunks


def _outside(length: int, span: tuple[int, int] | None) -> list[tuple[int, int]]:
    """The parts of [0, length) outside `span`."""
    if span is None:
        return [(0, length)]
    return [(0, min(span[0], length)), (min(span[1], length), length)]


def choose_hints(
    trace_ids: Sequence[int] | Tensor,
    completion_length: int,
    ratio: float,
    min_size: int,
    max_size: int,
    generator: torch.Generator,
    answer_span: tuple[int, int] | None = None,
) -> Tensor:
    """Fix floor(ratio * N) of a trace's N chunks, chosen at random, at their own positions.

    Args:
        trace_ids: The true trace; what does not fit into the completion is cut off.
        completion_length: C.
        ratio: The hint ratio eta, in [0, 1].
        min_size: Smallest chunk in tokens (the paper: 5).
        max_size: Largest chunk in tokens (the paper: 10).
        generator: All randomness comes from it.
        answer_span: Tokens [start, end) of the trace that give the final answer away; they are
            left out before chunking.

    Returns:
        Hint ids [C], -1 where free.
    """
    trace = torch.as_tensor(trace_ids, dtype=torch.int64)[:completion_length]
    chunks = [
        (start + offset, end + offset)
        for offset, stop in _outside(len(trace), answer_span)
        for start, end in chunk_trace(stop - offset, min_size, max_size, generator)
    ]
    # The small term keeps 0.29 * 100 from becoming 28.
    count = math.floor(ratio * len(chunks) + 1e-9)
    hint_ids = torch.full((completion_length,), FREE, dtype=torch.int64)
    for index in torch.randperm(len(chunks), generator=generator)[:count].tolist():
        start, end = chunks[index]
        hint_ids[start:end] = trace[start:end]
    return hint_ids
