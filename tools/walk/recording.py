"""Which functions of the service ran, in the order of their first call."""

import ast
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import CodeType, FrameType

ROOT = Path(__file__).parents[2]
_SERVICE = str(ROOT / "service")


@dataclass(frozen=True)
class Function:
    """A function that ran, and the first line of its docstring."""

    name: str
    doc: str


@dataclass(frozen=True)
class File:
    """A file that a request passed, the first line of its docstring, and its functions that ran."""

    path: str
    doc: str
    functions: Sequence[Function]


class Recorder:
    """Notes the calls of the service's functions, in this thread and in those started later."""

    def __init__(self) -> None:
        self._ran: dict[CodeType, None] | None = None

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Record calls while the block runs."""
        threading.setprofile(self._heard)
        sys.setprofile(self._heard)
        try:
            yield
        finally:
            sys.setprofile(None)
            threading.setprofile(None)

    @contextmanager
    def recording(self) -> Iterator[dict[CodeType, None]]:
        """Record the functions that run within the block, in the order of their first calls."""
        ran: dict[CodeType, None] = {}
        self._ran = ran
        try:
            yield ran
        finally:
            self._ran = None

    def _heard(self, frame: FrameType, event: str, argument: object) -> None:
        ran = self._ran
        if ran is not None and event == "call":
            code = frame.f_code
            if code.co_filename.startswith(_SERVICE):
                ran[code] = None


def files(ran: Sequence[CodeType]) -> list[File]:
    """The files of what ran, with the functions of each; comprehensions are not functions."""
    found: dict[str, list[Function]] = {}
    for code in ran:
        if not code.co_name.startswith("<"):
            doc = code.co_consts[0] if code.co_consts else None
            function = Function(code.co_qualname.replace(".<locals>", ""), _first_line(doc))
            found.setdefault(code.co_filename, []).append(function)
    return [
        File(str(Path(path).relative_to(ROOT)), _doc_of(path), functions)
        for path, functions in found.items()
    ]


@cache
def _doc_of(path: str) -> str:
    return _first_line(ast.get_docstring(ast.parse(Path(path).read_text(encoding="utf-8"))))


def _first_line(doc: object) -> str:
    return doc.strip().partition("\n")[0] if isinstance(doc, str) else ""
