"""A program that compiles structures for the service, each in a process with its own limits.

The program runs as a script, imports no module of the service and reads its `Terms` from standard
input. It loads xgrammar once and forks a lane for each socket; a lane forks a process for each
structure, which shares the loaded memory; at a limit only this process ends. A request and its
answer are one line of JSON.
"""

import json
import os
import re
import resource
import signal
import socket
import sys
import time
from typing import Any

_MASK_SECONDS = 0.05
"""Time of one core in which the allowed next tokens must be found, before every token."""
_WALL_PART = 8
_WHERE = re.compile(r"^\[[^]]*\] \S+: ")
"""The time and source line that xgrammar writes before its messages."""
_BROKEN = (
    "the compiler (xgrammar) fails on it; a pattern that repeats something more than 128 times is "
    "one such case: use maxLength, or shorter repetitions one after the other"
)


def main(sockets: list[int]) -> None:
    """Serve the sockets until their other ends are closed."""
    import xgrammar

    terms = json.loads(sys.stdin.readline())
    tokens = xgrammar.TokenizerInfo.deserialize_json(terms.pop("tokens"))
    for number in sockets:
        if os.fork() == 0:
            _serve(socket.socket(fileno=number), tokens, terms)
            os._exit(0)
        os.close(number)
    for _ in sockets:
        os.wait()


def _serve(lane: socket.socket, tokens: Any, terms: dict[str, Any]) -> None:
    with lane, lane.makefile("rb") as requests:
        lane.sendall(b"{}\n")  # ready
        for line in requests:
            lane.sendall(json.dumps(_tried(line, tokens, terms)).encode() + b"\n")


def _tried(line: bytes, tokens: Any, terms: dict[str, Any]) -> dict[str, Any]:
    """Outcome of one structure: `seconds` of a core, and `ok`, `refused` or `limit`."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            request = json.loads(line)
            _limit(request["seconds"], terms["memory"])
            answer = _compiled(request, tokens, terms)
        except MemoryError:
            answer = {"limit": "memory"}
        except Exception as error:
            answer = {"refused": f"it cannot be compiled ({type(error).__name__})"}
        os.write(writing, json.dumps(answer)[:4096].encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        written = pipe.read()
    _, status, usage = os.wait4(child, 0)
    seconds = usage.ru_utime + usage.ru_stime
    if os.WIFSIGNALED(status) or not written:
        timed = os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGPROF, signal.SIGALRM)
        return {"limit": "time" if timed else "memory", "seconds": seconds}
    return {**json.loads(written), "seconds": seconds}


def _limit(seconds: float, memory: int) -> None:
    with open("/proc/self/statm") as statm:
        held = int(statm.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + memory, held + memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Without a handler, both signals end the process at any point.
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, _WALL_PART * seconds)


def _compiled(request: dict[str, Any], tokens: Any, terms: dict[str, Any]) -> dict[str, Any]:
    warnings = os.memfd_create("warnings")
    os.dup2(warnings, 2)
    import xgrammar

    # With a cache, as the engine's compiler has: some structures compile only without one.
    compiler = xgrammar.GrammarCompiler(tokens, max_threads=1, cache_enabled=True)
    try:
        grammar = _compile(compiler, request["kind"], request["text"], terms)
    except RuntimeError as error:
        if "bad_alloc" in str(error):
            raise MemoryError from error
        if "Check failed" in str(error):
            return {"refused": _BROKEN, "unsupported": True}
        return {"refused": _WHERE.sub("", str(error).strip())[:400]}
    said = os.pread(warnings, 4096, 0).decode(errors="replace").partition("Warning: ")[2]
    if said:
        return {"refused": said.splitlines()[0][:400], "unsupported": True}
    mask = xgrammar.allocate_token_bitmask(1, tokens.vocab_size)
    started = time.process_time()
    xgrammar.GrammarMatcher(grammar).fill_next_token_bitmask(mask)
    if time.process_time() - started > _MASK_SECONDS:
        return {"limit": "time"}
    return {"ok": True}


def _compile(compiler: Any, kind: str, text: str, terms: dict[str, Any]) -> Any:
    """Compile as the engine will: vllm.v1.structured_output.backend_xgrammar.XgrammarBackend."""
    match kind:
        case "json":
            options = {"any_whitespace": terms["any_whitespace"]}
            if not terms["any_whitespace"]:
                options["separators"] = (",", ":")
            return compiler.compile_json_schema(text, **options)
        case "regex":
            return compiler.compile_regex(text)
        case "structural_tag":
            return compiler.compile_structural_tag(text)
    return compiler.compile_grammar(text)


if __name__ == "__main__":
    main([int(number) for number in sys.argv[1:]])
