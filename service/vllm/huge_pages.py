"""Huge pages for the memory that a process keeps."""

import ctypes
from collections.abc import Iterator
from pathlib import Path

_SIZE = 2 << 20
"""Bytes of a huge page."""
_MAPS = Path("/proc/self/maps")
_HUGEPAGE, _COLLAPSE = 14, 25
"""Advice of madvise(2): to take huge pages from now on, and to make them of the present pages."""


def take_huge_pages() -> None:
    """Have the kernel keep the process's own memory in huge pages, where it can.

    A request touches objects all over the heap, and a processor remembers where only some thousand
    pages are. A kernel that refuses leaves the memory as it is; one before Linux 6.1 makes huge
    pages later, by itself.
    """
    advise = ctypes.CDLL(None).madvise
    advise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    for start, end in list(_own_memory()):
        advise(start, end - start, _HUGEPAGE)
        advise(start, end - start, _COLLAPSE)


def _own_memory() -> Iterator[tuple[int, int]]:
    """Start and end of the huge pages that fit into memory with no file behind it, no stack."""
    for line in _MAPS.read_text().splitlines() if _MAPS.exists() else ():
        addresses, mode, *_, name = [*line.split(maxsplit=5), ""][:6]
        if mode == "rw-p" and name in ("", "[heap]"):
            first, last = (int(each, 16) for each in addresses.split("-"))
            start, end = -(-first // _SIZE) * _SIZE, last // _SIZE * _SIZE
            if start < end:
                yield start, end
