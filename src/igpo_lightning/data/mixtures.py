"""Which example stands where in the endless training stream, of one source or of several."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

BLOCK = 1000  # positions in which a mixture's shares are met exactly


@dataclass(frozen=True)
class Part:
    """One source of a mixture.

    Attributes:
        count: How many examples it has, at least 1.
        weight: Its share of the stream, relative to the other parts', above 0.
    """

    count: int
    weight: float


def stream_index(position: int, count: int, seed: int) -> int:
    """Which of `count` examples stands at `position` of an endless stream of reshuffled epochs."""
    epoch, offset = divmod(position, count)
    return _permutation(epoch, count, seed)[offset]


def mixture_index(position: int, parts: Sequence[Part], seed: int) -> tuple[int, int]:
    """Which part, and which of its examples, stands at `position` of the stream.

    Every `BLOCK` positions hold each part in its share, in shuffled order, and every part goes
    through its own reshuffled epochs: no example of a part comes twice before all came once.
    """
    if len(parts) == 1:
        return 0, stream_index(position, parts[0].count, seed)
    shares = block_shares([part.weight for part in parts])
    block, offset = divmod(position, BLOCK)
    order = _block_order(block, shares, seed)
    part = order[offset]
    earlier = block * shares[part] + order[:offset].count(part)
    return part, stream_index(earlier, parts[part].count, seed + part)


def block_shares(weights: Sequence[float]) -> tuple[int, ...]:
    """How many of `BLOCK` positions each part gets: largest remainders, and at least 1."""
    exact = [BLOCK * weight / sum(weights) for weight in weights]
    shares = [max(1, int(value)) for value in exact]
    by_remainder = sorted(range(len(weights)), key=lambda i: shares[i] - exact[i])
    for i in by_remainder[: max(0, BLOCK - sum(shares))]:
        shares[i] += 1
    while sum(shares) > BLOCK:  # tiny weights were lifted to 1: the largest parts pay
        shares[shares.index(max(shares))] -= 1
    return tuple(shares)


@lru_cache(maxsize=8)
def _permutation(epoch: int, count: int, seed: int) -> list[int]:
    """The order of one epoch."""
    order = list(range(count))
    random.Random(f"epoch-{seed}-{epoch}-{count}").shuffle(order)
    return order


@lru_cache(maxsize=8)
def _block_order(block: int, shares: tuple[int, ...], seed: int) -> list[int]:
    """The parts of one block's positions."""
    order = [part for part, share in enumerate(shares) for _ in range(share)]
    random.Random(f"block-{seed}-{block}").shuffle(order)
    return order
