"""How the C library treats the memory that a CPU run frees."""

import ctypes

# glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGEST_FROM_HEAP = 1 << 25  # bytes; glibc allows no more
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
