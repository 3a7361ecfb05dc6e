"""Where chosen chunks of a trace stand in the completion."""

import math

Chunk = tuple[int, int]


def own_positions(chunks: list[Chunk]) -> list[int]:
    """Every chunk at the position that it has in the trace (arXiv 2509.10396, Algorithm 1)."""
    return [start for start, _ in chunks]


def compressed_positions(chunks: list[Chunk], trace_length: int, length: int) -> list[int]:
    """Chunks of a trace that is longer than the completion, its gaps shrunk by one common factor.

    Args:
        chunks: Chosen chunks in the order of the trace; together at most `length` tokens.
        trace_length: T, tokens in the trace.
        length: C < T, tokens in the completion.

    Returns:
        Start of each chunk in [0, C).
    """
    given = sum(end - start for start, end in chunks)
    shrink = max(0, length - given) / max(1, trace_length - given)
    positions, placed = [], 0
    for start, end in chunks:
        # start - placed: tokens before the chunk that are not given, its gaps so far.
        positions.append(placed + math.floor(shrink * (start - placed)))
        placed += end - start
    return positions


def stretched_positions(
    chunks: list[Chunk], trace_length: int, length: int, stretch: float, gap_limit: int, tail: int
) -> list[int]:
    """The released code's placement: wider gaps, a bound on each, and a free tail.

    The gaps (before the first chunk and between chunks) are multiplied by one factor: what would
    fill the room before the tail, at least 1 and at most `stretch`; then each is cut to
    `gap_limit`. A chunk that would reach into the tail may come out; see `choose_hints`.

    Args:
        chunks: Chosen chunks in the order of the trace.
        trace_length: T.
        length: C.
        stretch: Largest factor on a gap (released: 1.5).
        gap_limit: Largest gap in tokens (released: 100).
        tail: Positions at the end of the completion that stay free (released: 30).
    """
    given = sum(end - start for start, end in chunks)
    factor = (length - tail - given) / max(1, trace_length - given)
    factor = min(stretch, max(1.0, factor))
    positions, cursor, previous_end = [], 0, 0
    for start, end in chunks:
        cursor += min(math.floor(factor * (start - previous_end)), gap_limit)
        positions.append(cursor)
        cursor += end - start
        previous_end = end
    return positions
