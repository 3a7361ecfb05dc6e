"""Hints from a ground-truth trace (arXiv 2509.10396, Algorithm 1, lines on chunking)."""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from igpo_lightning.settings import InpaintConfig

Chunk = tuple[int, int]  # tokens [start, end) of a trace
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
) -> list[Chunk]:
    """Cut [0, length) into contiguous chunks (start, end), sizes ~ U[min_size, max_size] tokens.

    The last chunk takes what is left and may be shorter than `min_size`: no token is lost.
    """
    return chunks_of(iter(lambda: _randint(min_size, max_size, generator), None), length)


def chunks_of(sizes: Iterator[int], length: int) -> list[Chunk]:
    """Cut [0, length) into chunks of the given sizes, of which only as many as needed are taken."""
    chunks: list[Chunk] = []
    start = 0
    while start < length:
        end = min(start + next(sizes), length)
        chunks.append((start, end))
        start = end
    return chunks


def _outside(length: int, span: Chunk | None) -> list[Chunk]:
    """The parts of [0, length) outside `span`."""
    if span is None:
        return [(0, length)]
    return [(0, min(span[0], length)), (min(span[1], length), length)]


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
) -> Tensor:
    """Fix floor(ratio * N) of a trace's N chunks, chosen at random, at their own positions.

    What does not fit into the completion is cut off before chunking.

    Args:
        trace_ids: The true trace.
        completion_length: C.
        ratio: The hint ratio eta, in [0, 1].
        min_size: Smallest chunk in tokens (the paper: 5).
        max_size: Largest chunk in tokens (the paper: 10).
        generator: All randomness comes from it.
        answer_span: Tokens [start, end) of the trace that give the final answer away; they are
            left out before chunking.
        options: Other choices than the paper's, each documented there. A chunk that reaches into
            the free tail of the stretched placement is cut there.

    Returns:
        Hint ids [C], -1 where free.
    """
    trace = torch.as_tensor(trace_ids, dtype=torch.int64)
    span = answer_span if options.exclude_answer else None
    whole, trace = trace, trace[: _room(completion_length, options)]
    chunks = [
        (start + offset, end + offset)
        for offset, stop in _outside(len(trace), span)
        for start, end in chunk_trace(stop - offset, min_size, max_size, generator)
        if long_enough(start, end, min_size, options)
    ]
    ranked: list[int] = torch.randperm(len(chunks), generator=generator).tolist()
    chosen = [chunks[index] for index in given_chunks(ranked, ratio, options)]
    hint_ids = place_chunks(sorted(chosen), whole, completion_length, options)
    if options.noise:
        vocabulary = sorted({t for a, b in _outside(len(trace), span) for t in trace[a:b].tolist()})
        hint_ids = _corrupt(hint_ids, vocabulary, options.noise, generator)
    return hint_ids


def long_enough(start: int, end: int, min_size: int, options: InpaintConfig) -> bool:
    """Whether a chunk may be given: one that is too short is dropped, where that is asked for."""
    return not (options.drop_short_chunk and end - start < min_size)


def given_chunks(ranked: Sequence[int], ratio: float, options: InpaintConfig) -> list[int]:
    """Which of N chunks are given: the first ones of `ranked`, as many as the ratio eta says."""
    number = len(ranked)
    # The small terms keep 0.29 * 100 from becoming 28.
    if options.round_up:
        count = number - math.floor((1 - ratio) * number + 1e-9)
    else:
        count = math.floor(ratio * number + 1e-9)
    given = list(ranked[:count])
    if options.always_last and number and number - 1 not in given:
        given.append(number - 1)
    return given


def place_chunks(
    chosen: list[Chunk], trace: Tensor, completion_length: int, options: InpaintConfig
) -> Tensor:
    """Hint ids [C] with the chosen chunks of a whole trace at their places, -1 where free."""
    hint_ids = torch.full((completion_length,), FREE, dtype=torch.int64)
    room = _room(completion_length, options)
    places = [start for start, _ in chosen]  # each chunk's own position in the trace
    if options.placement == "stretched":
        places = stretched_positions(chosen, len(trace), room, options.stretch, options.gap_limit)
    for (start, end), place in zip(chosen, places, strict=True):
        stop = min(place + end - start, room)  # what reaches past the room is cut off
        hint_ids[place:stop] = trace[start : start + max(0, stop - place)]
    return hint_ids


def _room(completion_length: int, options: InpaintConfig) -> int:
    """Positions that may be given: all, or without the free tail of the stretched placement."""
    return completion_length - (options.tail if options.placement == "stretched" else 0)


def stretched_positions(
    chunks: list[Chunk], trace_length: int, room: int, stretch: float, gap_limit: int
) -> list[int]:
    """The released code's placement: gaps widened by one factor, and a bound on each.

    The factor is what would spread the whole trace over the room, at least 1 and at most
    `stretch`. The first chunk stands at its own start times the factor, each later one after the
    end of the chunk before it and the gap between both times the factor, at most `gap_limit`. A
    chunk may come out past the room; see `choose_hints`.

    Args:
        chunks: Chosen chunks in the order of the trace.
        trace_length: T, before the trace is cut to the room.
        room: Positions that may be given: the completion without its free tail.
        stretch: Largest factor on a gap (released: 1.5).
        gap_limit: Largest gap between two chunks in tokens (released: 100).
    """
    factor = min(stretch, max(1.0, room / max(1, trace_length)))
    positions: list[int] = []
    cursor, previous_end = 0, 0
    for start, end in chunks:
        gap = math.floor(factor * (start - previous_end))
        cursor += min(gap, gap_limit) if positions else gap
        positions.append(cursor)
        cursor += end - start
        previous_end = end
    return positions
