"""Memory that every step frees and takes again, kept by the process in between.

The C library gives large pieces back to the system as soon as they are freed. A step on a CPU takes gigabytes in such
pieces, and the system clears every page of them each time: up to a tenth of the time of a training.
"""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager

# glibc's malloc.h; see mallopt(3).
TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4
MMAP_MAX_DEFAULT = 65536
LARGEST_THRESHOLD = 32 * 2**20
"""Where glibc's own adjustment of the threshold, which setting it ends, would have arrived."""
TRIM_DEFAULT = 128 * 2**10


@contextmanager
def kept_memory() -> Iterator[None]:
    """Within it, or in a function that it decorates, this process keeps what it frees; after it, it gives that back.

    What is computed stays the same. Where the C library is not glibc nothing is done.
    """
    if platform.libc_ver()[0] != "glibc":
        yield
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(MMAP_MAX, 0)
    libc.mallopt(TRIM_THRESHOLD, -1)
    try:
        yield
    finally:
        libc.mallopt(MMAP_MAX, MMAP_MAX_DEFAULT)
        libc.mallopt(MMAP_THRESHOLD, LARGEST_THRESHOLD)
        libc.mallopt(TRIM_THRESHOLD, TRIM_DEFAULT)
        libc.malloc_trim(0)
