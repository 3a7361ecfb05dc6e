"""Hints from a ground-truth trace (arXiv 2509.10396, Algorithm 1, lines on chunking)."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from igpo_lightning.inpainting.placement import (
    Chunk,
    compressed_positions,
    own_positions,
    stretched_positions,
)
from igpo_lightning.settings import InpaintConfig
from igpo_lightning.settings.inpaint import CHOICES, PLACEMENTS

FREE = -1  # in hint_ids: the sampler fills this position
PAPER = InpaintConfig()


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


def _ranked(
    chunks: list[Chunk],
    choice: str,
    uncertainty: Tensor | None,
    trace_length: int,
    generator: torch.Generator,
) -> list[int]:
    """Indices of all chunks, the ones to give first."""
    if choice == "random":
        order: list[int] = torch.randperm(len(chunks), generator=generator).tolist()
        return order
    if choice == "prefix":
        return list(range(len(chunks)))
    if choice == "suffix":
        return list(range(len(chunks)))[::-1]
    if choice == "uncertain":
        if uncertainty is None:
            raise ValueError("choice='uncertain' needs the policy's uncertainty")
        # A longer trace is seen through the completion that it is compressed into.
        scale = min(1.0, len(uncertainty) / max(1, trace_length))
        spans = [(int(scale * a), max(int(scale * a) + 1, int(scale * b))) for a, b in chunks]
        means = [float(uncertainty[a:b].mean()) for a, b in spans]
        return sorted(range(len(chunks)), key=lambda i: (-means[i], i))
    raise ValueError(f"choice {choice!r} is unknown; use one of {', '.join(CHOICES)}")


def _corrupt(
    hint_ids: Tensor, vocabulary: list[int], noise: float, generator: torch.Generator
) -> Tensor:
    """Replace round(noise * n) of n hint tokens, each by another token of `vocabulary`."""
    given = (hint_ids != FREE).nonzero().flatten()
    count = round(noise * len(given))
    corrupted = hint_ids.clone()
    for place in given[torch.randperm(len(given), generator=generator)[:count]].tolist():
        others = [token for token in vocabulary if token != int(hint_ids[place])]
        if others:
            corrupted[place] = others[_randint(0, len(others) - 1, generator)]
    return corrupted


def choose_hints(
    trace_ids: Sequence[int] | Tensor,
    completion_length: int,
    ratio: float,
    min_size: int,
    max_size: int,
    generator: torch.Generator,
    answer_span: tuple[int, int] | None = None,
    *,
    options: InpaintConfig = PAPER,
    uncertainty: Tensor | None = None,
) -> Tensor:
    """Fix floor(ratio * N) of a trace's N chunks, chosen at random, at their own positions.

    Args:
        trace_ids: The true trace.
        completion_length: C.
        ratio: The hint ratio eta, in [0, 1].
        min_size: Smallest chunk in tokens (the paper: 5).
        max_size: Largest chunk in tokens (the paper: 10).
        generator: All randomness comes from it.
        answer_span: Tokens [start, end) of the trace that give the final answer away; they are
            left out before chunking.
        options: Other choices than the paper's, each documented there. A chosen chunk that would
            not fit (into the free tail, past the end) is left out.
        uncertainty: [C], the policy's entropy at each completion position; "uncertain" needs it.

    Returns:
        Hint ids [C], -1 where free.
    """
    trace = torch.as_tensor(trace_ids, dtype=torch.int64)
    hint_ids = torch.full((completion_length,), FREE, dtype=torch.int64)
    span = answer_span if options.exclude_answer else None
    if len(trace) > completion_length and options.long_traces == "skip":
        return hint_ids
    if options.long_traces != "compress":
        trace = trace[:completion_length]
    chunks = [
        (start + offset, end + offset)
        for offset, stop in _outside(len(trace), span)
        for start, end in chunk_trace(stop - offset, min_size, max_size, generator)
        if not (options.drop_short_chunk and end - start < min_size)
    ]
    # The small term keeps 0.29 * 100 from becoming 28.
    count = math.floor(ratio * len(chunks) + 1e-9)
    budget = completion_length
    chosen: list[Chunk] = []
    for index in _ranked(chunks, options.choice, uncertainty, len(trace), generator)[:count]:
        size = chunks[index][1] - chunks[index][0]
        if size <= budget:
            chosen.append(chunks[index])
            budget -= size
    chosen.sort()
    places = _positions(chosen, trace, hint_ids, options)
    for (start, end), place in zip(chosen, places, strict=True):
        stop = place + end - start
        free_until = completion_length - (options.tail if options.placement == "stretched" else 0)
        if stop <= free_until:
            hint_ids[place:stop] = trace[start:end]
    if options.noise:
        vocabulary = sorted({t for a, b in _outside(len(trace), span) for t in trace[a:b].tolist()})
        hint_ids = _corrupt(hint_ids, vocabulary, options.noise, generator)
    return hint_ids


def _positions(
    chosen: list[Chunk], trace: Tensor, hint_ids: Tensor, options: InpaintConfig
) -> list[int]:
    length = len(hint_ids)
    if options.placement == "stretched":
        return stretched_positions(
            chosen, len(trace), length, options.stretch, options.gap_limit, options.tail
        )
    if options.placement != "own":
        known = ", ".join(PLACEMENTS)
        raise ValueError(f"placement {options.placement!r} is unknown; use one of {known}")
    if len(trace) > length:
        return compressed_positions(chosen, len(trace), length)
    return own_positions(chosen)
