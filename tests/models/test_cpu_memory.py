"""What a CPU run asks of the C library, seen by the pages that the kernel has to map."""

import ctypes
import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, resource, sys
from igpo_lightning.models.cpu_memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
library = ctypes.CDLL(None)
library.malloc.restype = ctypes.c_void_p
size = 16 << 20
def use():
    blocks = [ctypes.c_void_p(library.malloc(ctypes.c_size_t(size))) for _ in range(4)]
    for block in blocks:
        ctypes.memset(block, 1, size)
    for block in blocks:
        library.free(block)
use(), use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"), reason="a setting of glibc"
)
def test_freed_memory_is_used_again_without_new_pages() -> None:
    """Four blocks of 16 MiB are 16,384 pages of 4 KiB: ten rounds map hardly one of them again."""

    def new_pages(choice: str) -> int:
        run = subprocess.run(
            [sys.executable, "-c", PROGRAM, choice], capture_output=True, text=True, check=True
        )
        return int(run.stdout)

    assert new_pages("keep") < 100
    assert new_pages("leave") > 1000  # what glibc does by itself
