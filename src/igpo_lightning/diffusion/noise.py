"""Random numbers as a pure function of keys, so that no result depends on batching or ranks.

A `torch.Generator` yields numbers in the order in which they are asked for: a row's noise would
change with its neighbours, the micro-batch size, or a resume. Here every number is a hash of (row
key, counters), computed for all rows at once, and equal on every device.
"""

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor

# Constants of splitmix64 (Steele et al., 2014), as signed 64-bit integers.
_INCREMENT = 0x9E3779B97F4A7C15 - (1 << 64)
_MIX_1 = 0xBF58476D1CE4E5B9 - (1 << 64)
_MIX_2 = 0x94D049BB133111EB - (1 << 64)


def stable_seed(*parts: object) -> int:
    """A 63-bit seed from (run seed, step, prompt id, sample index, ...), equal in every process."""
    text = "\x1f".join(str(part) for part in parts)
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def row_keys(seeds: list[int], device: torch.device | str = "cpu") -> Tensor:
    """Keys [B] (int64) of rows from their seeds."""
    return torch.tensor(seeds, dtype=torch.int64, device=device)


def _shift_right(x: Tensor, bits: int) -> Tensor:
    """Logical right shift; torch's own keeps the sign bit."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _mix(x: Tensor) -> Tensor:
    """splitmix64's finaliser: every input bit changes about half of the output bits."""
    x = (x ^ _shift_right(x, 30)) * _MIX_1
    x = (x ^ _shift_right(x, 27)) * _MIX_2
    return x ^ _shift_right(x, 31)


def fold(keys: Tensor, counter: int | Tensor) -> Tensor:
    """New keys from keys and a counter (both int64, broadcast against each other)."""
    # As a tensor, since the product has to wrap around at 64 bits.
    offset = torch.as_tensor(counter, dtype=torch.int64, device=keys.device) + 1
    return _mix(keys + offset * _INCREMENT)


def uniform(keys: Tensor) -> Tensor:
    """Uniform numbers in the open interval (0, 1), float64, one for each key."""
    return (_shift_right(_mix(keys), 12).double() + 0.5) * 2.0**-52


def _mix_(x: Tensor, spare: Tensor) -> Tensor:
    """`_mix` in place; `spare` is a buffer like x."""
    for bits, factor in ((30, _MIX_1), (27, _MIX_2)):
        torch.bitwise_right_shift(x, bits, out=spare)
        x.bitwise_xor_(spare.bitwise_and_((1 << (64 - bits)) - 1)).mul_(factor)
    torch.bitwise_right_shift(x, 31, out=spare)
    return x.bitwise_xor_(spare.bitwise_and_((1 << 33) - 1))


@dataclass(frozen=True)
class NoiseBuffers:
    """Memory for the noise of up to m rows over a vocabulary, to draw into again and again.

    Attributes:
        offsets: [V] int64, what a key is added to for each number of its stream.
        bits: [m, V] int64.
        spare: [m, V] int64.
        noise: [m, V] float64.
    """

    offsets: Tensor
    bits: Tensor
    spare: Tensor
    noise: Tensor

    @classmethod
    def allocate(cls, rows: int, vocab_size: int, device: torch.device) -> "NoiseBuffers":
        """Buffers for `rows` rows."""
        offsets = torch.arange(1, vocab_size + 1, device=device) * _INCREMENT
        bits = torch.empty(rows, vocab_size, dtype=torch.int64, device=device)
        return cls(
            offsets, bits, torch.empty_like(bits), torch.empty_like(bits, dtype=torch.float64)
        )


def stream(keys: Tensor, buffers: NoiseBuffers) -> Tensor:
    """Integers [m, V], uniform in [0, 2^52), for keys [m]: a view of `buffers.spare`.

    A row is the splitmix64 stream that its key seeds.
    """
    bits, spare = buffers.bits[: len(keys)], buffers.spare[: len(keys)]
    torch.add(keys[:, None], buffers.offsets, out=bits)
    _mix_(bits, spare)
    torch.bitwise_right_shift(bits, 12, out=spare)
    return spare.bitwise_and_((1 << 52) - 1)


def gumbel_of(numbers: Tensor, out: Tensor | None = None) -> Tensor:
    """Standard Gumbel noise -log(-log(u)) in float64 for u = (number + 1/2) / 2^52."""
    noise = numbers.double() if out is None else out.copy_(numbers)
    return noise.add_(0.5).mul_(2.0**-52).log_().neg_().log_().neg_()


def gumbel(keys: Tensor, vocab_size: int, buffers: NoiseBuffers | None = None) -> Tensor:
    """Standard Gumbel noise [..., V] in float64 for keys [...].

    Float64 because lower precision degrades generation quality (arXiv 2409.02908). The result is a
    view of the buffers, where they are given.
    """
    rows = keys.numel()
    buffers = buffers or NoiseBuffers.allocate(rows, vocab_size, keys.device)
    numbers = stream(keys.flatten(), buffers)
    return gumbel_of(numbers, buffers.noise[:rows]).view(*keys.shape, vocab_size)
