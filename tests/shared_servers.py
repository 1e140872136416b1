"""Servers that tests of several files share, and the worker that runs those tests."""

import re
from functools import cache
from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling

_SERVERS = ("smollm2", "tiny")
"""Fixtures of tests/engine/conftest.py, of which one runs at a time in a worker."""


class ServerScheduling(LoadScopeScheduling):  # type: ignore[misc]
    """Gives a worker all files that share a server together, and every other file alone."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return _server_of(self.config.rootpath / file) or file


def running_order(item: pytest.Item) -> tuple[bool, int, int, str]:
    """Key of a sort by which tests on the real engine come first, those of one server together.

    They take the longest; short tests afterwards keep all workers busy to the end.
    """
    own = (name for name in _SERVERS if name in getattr(item, "fixturenames", ()))
    file, path = _server_of(item.path), str(item.path)
    return "engine" not in item.path.parts, _rank(file), _rank(next(own, None)), path


@cache
def _server_of(file: Path) -> str | None:
    """The first server that a test of the file has as an argument."""
    text = file.read_text(encoding="utf-8")
    return next((name for name in _SERVERS if re.search(rf"\b{name}: Server\b", text)), None)


def _rank(server: str | None) -> int:
    return len(_SERVERS) if server is None else _SERVERS.index(server)
