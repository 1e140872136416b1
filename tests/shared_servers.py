"""Servers that tests of several files share, and the workers that run those tests."""

import os
import re
from functools import cache
from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

_SERVERS = ("smollm2", "tiny", "afresh")
"""Fixtures of tests/engine/conftest.py, of which one runs at a time in a worker."""

_IN_PROCESS = "from tests.engine.in_process import"

_LONG = {"gpu_check", "loadtests", "tools"}
"""Folders whose files take tens of seconds; one that came last would run alone."""


class ServerScheduling(LoadScopeScheduling):  # type: ignore[misc]
    """Gives a worker all files that share a server together, and every other file alone.

    A worker without a core of its own runs no engine: its tests, which often wait, use what time
    the others leave.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return server_of(self.config.rootpath / file) or file

    def _reschedule(self, node: WorkerController) -> None:
        if self._takes(node):
            super()._reschedule(node)
        elif not node.shutting_down:
            node.shutdown()

    def _assign_work_unit(self, node: WorkerController) -> None:
        if scope := self._takes(node):
            self.workqueue.move_to_end(scope, last=False)
            super()._assign_work_unit(node)

    def _takes(self, node: WorkerController) -> str:
        """The next scope for a worker; empty if it has none."""
        cores, place = len(os.sched_getaffinity(0)), int(node.gateway.id.removeprefix("gw"))
        wanted = (each for each in self.workqueue if place < cores or not _on_engine(each))
        return next(wanted, "")


def running_order(item: pytest.Item) -> tuple[bool, int, int, bool, str]:
    """Key of a sort by which tests on the real engine come first, those of one server together.

    They take the longest; short tests afterwards keep all workers busy to the end. A test without
    a shared server stays beside those of its file, whose other servers would else start twice.
    """
    own = (name for name in _SERVERS if name in getattr(item, "fixturenames", ()))
    file, path = server_of(item.path), str(item.path)
    short = _LONG.isdisjoint(item.path.parts)
    return "engine" not in item.path.parts, _rank(file), _rank(next(own, file)), short, path


def _on_engine(scope: str) -> bool:
    return scope in _SERVERS or scope.startswith("tests/engine/")


@cache
def server_of(file: Path) -> str | None:
    """The first server that a test of the file has as an argument.

    A file that runs an engine in its own process goes with `tiny`: a worker's first such engine
    has vLLM imported once more, and the later ones are forked from the same process.
    """
    text = file.read_text(encoding="utf-8")
    found = (name for name in _SERVERS if re.search(rf"\b{name}: Server\b", text))
    return next(found, "tiny" if _IN_PROCESS in text else None)


def _rank(server: str | None) -> int:
    return len(_SERVERS) if server is None else _SERVERS.index(server)
