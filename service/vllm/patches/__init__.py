"""Repairs and replacements of vLLM, one file each, and the versions that they apply to.

Each module has a `PATCH` that says why it is there. tests/engine/test_patches.py has a test for
each that fails when vLLM no longer needs it.
"""

from typing import NamedTuple


class Patch(NamedTuple):
    """A repair of vLLM or a replacement: its reason, the upstream issue, and the versions.

    `until` is the first release that does not need it, None while all do.
    """

    why: str
    upstream: str = ""
    until: str | None = None

    def applies(self, version: str) -> bool:
        """True for a release, such as 0.32.0, that needs it."""
        return self.until is None or _numbers(version) < _numbers(self.until)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:3] if part.isdecimal())
