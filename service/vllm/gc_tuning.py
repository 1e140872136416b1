"""The heap of a process that serves: what it holds for good is not scanned again."""

import ctypes
import gc

from service.vllm.huge_pages import take_huge_pages

_YOUNG = 5_000
"""Objects made, and not freed, between two collections. Python's 700 come with each few requests;
with more than these, garbage that holds bodies of requests would be kept for long."""
_MIDDLE, _OLD = 1, 40
"""Collections of young objects before one that looks at their survivors too, and of those before a
full one. 15,000 objects come together so, in place of the 55,000 of Python's 10 and 10, which took
13 to 24 ms; full collections are as rare as with these."""


def leave_heap() -> None:
    """Have the collector wait for `settle_heap`.

    A start makes hardly any garbage, and each of its ten full collections would look at all objects
    made so far: 2.4 s of CPU (decision 60).
    """
    gc.disable()


def settle_heap() -> None:
    """Free the garbage of the start, and have the collector look at later objects only.

    vLLM and torch leave 700,000 objects that live as long as the process. Each full collection
    would scan them and stop all requests for three quarters of a second. The pages that the start
    used and left free go back to the system, 38 MB of the API process; the others become huge.
    """
    gc.collect()
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):  # glibc has it, musl does not
        trim(0)
    take_huge_pages()
    gc.freeze()
    gc.set_threshold(_YOUNG, _MIDDLE, _OLD)
    gc.enable()
