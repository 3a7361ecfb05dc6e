"""Where chosen chunks of a trace stand in the completion."""

import math

Chunk = tuple[int, int]


def own_positions(chunks: list[Chunk]) -> list[int]:
    """Every chunk at the position that it has in the trace (arXiv 2509.10396, Algorithm 1)."""
    return [start for start, _ in chunks]


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
