"""Garbage collection and huge pages for the long-lived heap of a serving process."""

import ctypes
import gc
from collections.abc import Iterator
from pathlib import Path

_YOUNG = 5_000
"""Objects made, and not freed, between two collections. Python's 700 come with each few requests;
with more than these, garbage that holds bodies of requests would be kept for long."""
_MIDDLE, _OLD = 1, 40
"""Collections of young objects before one that looks at their survivors too, and of those before a
full one. 15,000 objects come together so, in place of the 55,000 of Python's 10 and 10, which took
13 to 24 ms; full collections are as rare as with these."""
_SIZE = 2 << 20
"""Bytes of a huge page."""
_MAPS = Path("/proc/self/maps")
_HUGEPAGE, _COLLAPSE = 14, 25
"""Advice of madvise(2): to take huge pages from now on, and to make them of the present pages."""


def pause() -> None:
    """Switch the garbage collector off until `freeze`, since a start creates hardly any garbage.

    Ten full collections during a start would take 2.4 s of CPU (decision 60).
    """
    gc.disable()


def freeze_imports() -> None:
    """Have the collector never look at the objects of the modules imported so far.

    One in fifty of them is garbage. `freeze` would look for it for three quarters of a second while
    nothing else is left to do in the start.
    """
    gc.freeze()


def freeze() -> None:
    """Free the garbage of the start, and have the collector look at later objects only.

    vLLM and torch leave 700,000 objects that live as long as the process. Each full collection
    would scan them and stop all requests for three quarters of a second. Free pages are returned to
    the system (38 MB of the API process).
    """
    gc.collect()
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):  # glibc has it, musl does not
        trim(0)
    gc.freeze()
    gc.set_threshold(_YOUNG, _MIDDLE, _OLD)
    gc.enable()


def take_huge_pages() -> None:
    """Have the kernel back the process's private memory with huge pages, where it can.

    A request touches objects all over the heap, and a processor's TLB covers only some thousand
    pages. If the kernel refuses, memory stays as it is; kernels before Linux 6.1 create huge pages
    only later. Blocks for one or two seconds, in which it does not hold the GIL.
    """
    advise = ctypes.CDLL(None).madvise
    advise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    for start, end in list(_own_memory()):
        advise(start, end - start, _HUGEPAGE)
        advise(start, end - start, _COLLAPSE)


def _own_memory() -> Iterator[tuple[int, int]]:
    """Start and end of the huge pages that fit into private memory, without files and stacks."""
    for line in _MAPS.read_text().splitlines() if _MAPS.exists() else ():
        addresses, mode, *_, name = [*line.split(maxsplit=5), ""][:6]
        if mode == "rw-p" and name in ("", "[heap]"):
            first, last = (int(each, 16) for each in addresses.split("-"))
            start, end = -(-first // _SIZE) * _SIZE, last // _SIZE * _SIZE
            if start < end:
                yield start, end
