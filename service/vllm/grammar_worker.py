"""A program that compiles structures for the service, each in a process with its own limits.

The program is a fork of the seed (cpu/forkserver.py) where there is one. It reads its options from
a socket, and forks a process for each of the others (a lane). A lane forks a process for each
structure; this process shares the loaded memory, and it alone ends if the structure exceeds a
limit. Requests and answers are lines of JSON. A structure that compiles is then walked
(grammar_walk.py) under the same limits.
"""

import json
import os
import re
import resource
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import xgrammar

from service.limits.schema import children
from service.schemas.languages import prepare_formats
from service.schemas.parts import TooLarge
from service.schemas.rewrite import Unresolved
from service.vllm.grammar_text import Impossible, Written, tag_parts, write_schema, write_tag
from service.vllm.grammar_walk import DeadEnd, LimitExceeded, Vocabulary, Walker

USES = (
    "mirrors vllm.v1.structured_output.backend_xgrammar:XgrammarBackend.__post_init__, "
    "compile_grammar",
)

_PREFIXES = 16
"""Parts of a structural tag that are walked from their own beginnings."""
_WALK_SECONDS = 0.4
_WALK_PART = 0.2
"""Time after which no further walk begins, at most and as a part of the time for compiling."""
_SEARCH_SECONDS = 1.0
_WALL_PART = 8
_WHERE = re.compile(r"^\[[^]]*\] \S+: ")
"""The time and source line that xgrammar writes before its messages."""
_DEFINITIONS = ("$defs", "definitions")

Answer = dict[str, Any]


def main(sockets: Sequence[socket.socket]) -> None:
    """Take the options from the first socket, and serve the others until they are closed."""
    os.setsid()  # Ctrl-C of a terminal is the service's alone
    prepare_formats()
    control, *lanes = sockets
    with control, control.makefile("rb") as sent:
        terms = json.loads(sent.readline())
    vocabulary = Vocabulary(xgrammar.TokenizerInfo.deserialize_json(terms.pop("tokens")))
    for lane in lanes:
        if os.fork() == 0:
            _serve(lane, vocabulary, terms)
            os._exit(0)
        lane.close()
    for _ in lanes:
        os.wait()


def _serve(lane: socket.socket, vocabulary: Vocabulary, terms: dict[str, Any]) -> None:
    with lane, lane.makefile("rb") as requests:
        lane.sendall(b"{}\n")  # ready
        for line in requests:
            lane.sendall(json.dumps(answer(line, vocabulary, terms)).encode() + b"\n")


def answer(line: bytes, vocabulary: Vocabulary, terms: dict[str, Any]) -> Answer:
    """The outcome of one structure: `seconds` of CPU time, and `ok`, `refused` or `limit`.

    `ok` comes with the longest `mask` in seconds, a limit with the part (`at`) that exceeds it.
    """
    request = json.loads(line)
    compiler = Compiler(vocabulary, terms, request["seconds"])
    last, timed, seconds = _in_child(request, terms, lambda say: say(compiler.try_(request)))
    outcome = {"limit": "time"} if timed else last or {"limit": "memory"}
    if "limit" in outcome and request["kind"] in ("json", "structural_tag"):
        request["seconds"] = min(_SEARCH_SECONDS, request["seconds"])
        found, _, more = _in_child(request, terms, lambda say: compiler.search(request, say))
        seconds += more
        outcome["at"] = found.get("at", "")
    return {**outcome, "seconds": seconds}


def _in_child(
    request: Mapping[str, Any],
    terms: Mapping[str, Any],
    work: Callable[[Callable[[Answer], None]], None],
) -> tuple[Answer, bool, float]:
    """Do work in a process with the limits.

    Returns its last answer, empty if it gave none, whether time ended it, and its CPU seconds.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        with os.fdopen(writing, "w", buffering=1) as pipe:

            def say(answer: Answer) -> None:
                pipe.write(json.dumps(answer) + "\n")

            try:
                _limit(request["seconds"], terms["memory"])
                work(say)
            except MemoryError:
                say({"limit": "memory"})
            except Exception as error:
                say({"refused": f"it cannot be compiled ({type(error).__name__})"})
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as told:
        written = told.read().splitlines(keepends=True)
    _, status, usage = os.wait4(child, 0)
    timed = os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGPROF, signal.SIGALRM)
    whole = [line for line in written if line.endswith(b"\n")]
    last: Answer = json.loads(whole[-1]) if whole else {}
    return last, timed, usage.ru_utime + usage.ru_stime


def _limit(seconds: float, memory: int) -> None:
    with open("/proc/self/statm") as statm:
        held = int(statm.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + memory, held + memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _limit_time(seconds)


def _limit_time(seconds: float) -> None:
    """Give this process so many seconds of a core from now on."""
    # Without a handler, both signals end the process at any point.
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, _WALL_PART * seconds)


class Compiler:
    """Compiles and walks structures as the engine will compile and mask them."""

    def __init__(self, vocabulary: Vocabulary, terms: Mapping[str, Any], seconds: float) -> None:
        self._vocabulary = vocabulary
        self._terms = terms
        self._seconds = seconds

    def try_(self, request: Mapping[str, Any]) -> Answer:
        """Compile and walk a structure; the outcome is that of `answer`."""
        warnings = os.memfd_create("warnings")
        os.dup2(warnings, 2)
        try:
            written = self._write(request["kind"], request["text"])
            grammar = self._compile(written.kind, written.text)
            prefixes = [""]
            if written.kind == "structural_tag":
                tags = tag_parts(json.loads(written.text))
                prefixes += [begin for begin, tag in tags if "begin" in tag][:_PREFIXES]
            _limit_time(self._seconds)
            worst = self._walk(grammar, prefixes)
        except LimitExceeded as limit:
            return {"limit": str(limit)}
        except DeadEnd as end:
            return {"dead_end": str(end)}
        except Impossible:
            return {"dead_end": "", "at": "/"}
        except TooLarge:
            return {"refused": "its branches and conditions multiply to more than is compiled"}
        except Unresolved as error:
            return {"refused": f"it cannot enforce {error}", "unsupported": True}
        except ValueError as error:
            return {"refused": f"not a valid schema: {str(error).splitlines()[0][:200]}"}
        except RuntimeError as error:
            if "Check failed" in str(error):
                return {"refused": "the compiler (xgrammar) fails on it", "unsupported": True}
            return {"refused": _WHERE.sub("", str(error).strip())[:400]}
        said = os.pread(warnings, 4096, 0).decode(errors="replace").partition("Warning: ")[2]
        if said:
            return {"refused": said.splitlines()[0][:400], "unsupported": True}
        done = {"kind": written.kind, "text": written.text, "unenforced": written.unenforced}
        return {"ok": True, "mask": worst, **done}

    def _write(self, kind: str, text: str) -> Written:
        free = self._terms["any_whitespace"]
        if kind == "json":
            return write_schema(json.loads(text), any_whitespace=free)
        if kind == "structural_tag":
            return write_tag(json.loads(text), any_whitespace=free)
        return Written(kind, text)

    def search(self, request: Mapping[str, Any], say: Callable[[Answer], None]) -> None:
        """Find a part that exceeds a limit by itself, and report its path through `say`.

        A part is reported before it is tried, since trying it may use up the time of this search.
        """
        root = json.loads(request["text"])
        parts = children(root)
        if request["kind"] == "structural_tag":
            tags = tag_parts(root)
            parts = ((begin, tag["json_schema"]) for begin, tag in tags if "json_schema" in tag)
        for path, part in sorted(parts, key=lambda each: -len(json.dumps(each[1]))):
            say({"at": f"/{path}"})
            if isinstance(part, dict) and self._exceeds(root, part):
                return
        say({"at": ""})

    def _exceeds(self, root: Any, part: Any) -> bool:
        shared = {key: root[key] for key in _DEFINITIONS if key in root}
        try:
            written = self._write("json", json.dumps({**shared, **part}))
            self._walk(self._compile(written.kind, written.text))
        except (LimitExceeded, MemoryError):
            return True
        except (DeadEnd, Impossible, TooLarge, Unresolved, RuntimeError):
            pass
        return False

    def _walk(self, grammar: Any, prefixes: Sequence[str] = ("",)) -> float:
        """The time of the slowest mask that the walks find, in seconds."""
        most = min(_WALK_SECONDS, _WALK_PART * self._seconds)
        walker = Walker(self._vocabulary, self._terms["mask"], most)
        walker.walk(grammar, prefixes)
        return walker.worst

    def _compile(self, kind: str, text: str) -> Any:
        """Compile as vllm.v1.structured_output.backend_xgrammar.XgrammarBackend does."""
        # With a cache, as the engine's compiler has: some structures compile only without one.
        compiler = xgrammar.GrammarCompiler(
            self._vocabulary.tokens, max_threads=1, cache_enabled=True
        )
        try:
            match kind:
                case "json":
                    free = self._terms["any_whitespace"]
                    separators = None if free else (",", ":")
                    return compiler.compile_json_schema(
                        text, any_whitespace=free, separators=separators
                    )
                case "regex":
                    return compiler.compile_regex(text)
                case "structural_tag":
                    return compiler.compile_structural_tag(text)
            return compiler.compile_grammar(text)
        except RuntimeError as error:
            if "bad_alloc" in str(error):
                raise MemoryError from error
            raise
