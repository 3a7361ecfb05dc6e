"""Memory of a Linux host: how much is left, and what the C library does with what is freed."""

import ctypes
from pathlib import Path

import torch
from torch import nn

from igpo_lightning.errors import ConfigError

# glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGEST_FROM_HEAP = 1 << 25  # bytes; glibc allows no more
_GROUPS = Path("/sys/fs/cgroup")
# Files with the limit and the use of a container's memory: version 2 of control groups, version 1.
_CONTROL_GROUPS = (
    (_GROUPS / "memory.max", _GROUPS / "memory.current"),
    (_GROUPS / "memory/memory.limit_in_bytes", _GROUPS / "memory/memory.usage_in_bytes"),
)
_KEPT = 1 << 30  # bytes free at the heap's end before any go back to the system


def keep_freed_memory() -> bool:
    """Let freed memory serve the next tensors instead of going back to the system.

    A forward pass on a CPU frees some megabytes after every layer. By default glibc hands much of
    that back at once, and the kernel has to map and clear it again for the next layer: a fifth of
    a small model's time. The numbers that are computed do not change.

    Returns:
        Whether the C library is glibc and took the settings.
    """
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    taken = (
        library.mallopt(_MMAP_THRESHOLD, _LARGEST_FROM_HEAP),
        library.mallopt(_TRIM_THRESHOLD, _KEPT),
    )
    return all(taken)


def available_bytes() -> int | None:
    """Memory that this process can still take, by the kernel and its control group, if known."""
    found = []
    memory = Path("/proc/meminfo")
    if memory.is_file():
        lines = memory.read_text(encoding="ascii").splitlines()
        found += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")]
    for limit, used in _CONTROL_GROUPS:
        if limit.is_file() and used.is_file():
            most = limit.read_text(encoding="ascii").strip()
            if most != "max":
                found.append(max(0, int(most) - int(used.read_text(encoding="ascii"))))
    return min(found, default=None)


def check_memory(
    name: str, model: nn.Module, dtype: torch.dtype, device: str | torch.device
) -> None:
    """Refuse a model on the meta device that the CPU has no room for, before any room is taken.

    Raises:
        ConfigError: There is less memory than the weights take.
    """
    room = available_bytes()
    if room is None or torch.device(device).type != "cpu":
        return
    needed = sum(p.numel() for p in model.parameters()) * dtype.itemsize
    needed += sum(b.numel() * b.element_size() for b in model.buffers())
    if needed > room:
        raise ConfigError(
            f"model.path={name}: config.json describes {needed / 1e9:,.1f} GB of {dtype} weights, "
            f"and {room / 1e9:,.1f} GB of memory are free; use a smaller model, or model.dtype="
            "bfloat16"
        )
