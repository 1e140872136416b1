"""Trials of structures before the gate: each is compiled in a process with limits, or refused."""

import asyncio
import hashlib
import json
import logging
import os
import socket
import subprocess
import sys
from asyncio import StreamReader, StreamWriter
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from service.context import current_context
from service.errors import (
    ConfigurationError,
    InvalidRequest,
    ServiceError,
    Unavailable,
    UnsupportedFeature,
)
from service.gate.gate import Gate
from service.gate.stage import Stage, Turn
from service.settings.preparation import PreparationSettings
from service.vllm_engine import trial

_log = logging.getLogger(__name__)

_REMEMBERED = 4096
_END_SECONDS = 1.0
_UNASKED_PART = 0.1
"""Part of the time that compiling may take, for a structure that can be left out."""
_ENDED = "The process that compiles structures has ended."


@dataclass(frozen=True, slots=True)
class Compilation:
    """A structure as the engine's compiler takes it.

    `kind` is json, regex, grammar (EBNF) or structural_tag. One that the request did not ask for
    gets less time.
    """

    kind: str
    text: str
    asked: bool = True


@dataclass(frozen=True, slots=True)
class _Lane:
    reader: StreamReader
    writer: StreamWriter

    async def ask(self, request: Mapping[str, str | float]) -> bytes:
        """The line that answers a request; empty when the lane has ended."""
        self.writer.write(json.dumps(request).encode() + b"\n")
        try:
            return await self.reader.readline()
        except ConnectionError:
            return b""


class StructureTrials:
    """Compiles structures in the processes of trial.py, in fair turns of a stage.

    A result is remembered for its tenant (or salt group), so a structure costs its tenant once.
    `begin` starts the program, which takes seconds to load; `open` gives it the tokens.
    """

    def __init__(self, gate: Gate, settings: PreparationSettings) -> None:
        self._settings = settings
        self._stage = Stage(gate, settings.compilers, settings.max_waiting)
        self._terms = b""
        self._free: list[_Lane] = []
        self._program: subprocess.Popen[bytes] | None = None
        self._sockets: list[socket.socket] = []
        self._starting = asyncio.Lock()
        self._verdicts: OrderedDict[tuple[str, bytes], ServiceError | None] = OrderedDict()

    def begin(self) -> None:
        """Start the program; it waits for the tokens when it has loaded."""
        pairs = [socket.socketpair() for _ in range(self._settings.compilers)]
        self._program = start_program([there.fileno() for _, there in pairs])
        for _, there in pairs:
            there.close()
        self._sockets = [here for here, _ in pairs]

    async def open(self, tokens: str, *, any_whitespace: bool) -> None:
        """Give the program the serialised `xgrammar.TokenizerInfo`, and wait until it is ready."""
        terms = {
            "tokens": tokens,
            "any_whitespace": any_whitespace,
            "memory": self._settings.structure_mib << 20,
        }
        self._terms = json.dumps(terms).encode() + b"\n"
        try:
            await self._connect()
        except OSError as error:
            raise ConfigurationError(
                "structured output: the process that compiles structures has not started; its own "
                "message above says why"
            ) from error

    async def check(self, structure: Compilation) -> None:
        """Return once the structure is known to compile within its limits.

        Raises InvalidRequest for one that does not, UnsupportedFeature for one that would be
        enforced only in part, and as `Stage.run`. The tenant is the current request's.
        """
        text = structure.text.encode(errors="surrogatepass")
        key = f"{structure.kind} {structure.asked}".encode()
        digest = hashlib.blake2b(text, key=key).digest()
        known = (current_context().tenant.cache_domain, digest)
        if known not in self._verdicts:
            verdict = await self._stage.run(len(text), lambda turn: self._try(structure, turn))
            self._verdicts[known] = verdict
            if len(self._verdicts) > _REMEMBERED:
                self._verdicts.popitem(last=False)
        self._verdicts.move_to_end(known)
        if (error := self._verdicts[known]) is not None:
            raise error

    def stop(self) -> None:
        """End the program and its processes."""
        for lane in self._free:
            lane.writer.close()
        self._free.clear()
        if self._program is not None:
            self._program.terminate()
            self._program.wait()

    async def _connect(self) -> None:
        assert self._program is not None
        await asyncio.to_thread(_send, self._program, self._terms)
        for here in self._sockets:
            reader, writer = await asyncio.open_connection(sock=here)
            if not await reader.readline():
                raise ConnectionResetError
            self._free.append(_Lane(reader, writer))

    async def _lane(self) -> _Lane:
        """A free lane; the stage admits no more work than lanes, unless one has broken."""
        async with self._starting:
            if not self._free:
                _log.error("the process that compiles structures has ended; starting it again")
                self.stop()
                self.begin()
                try:
                    await self._connect()
                except OSError as error:
                    raise Unavailable(_ENDED, retry_after=5) from error
            return self._free.pop()

    async def _drop_broken(self) -> None:
        """Drop the lanes that have ended: all of them if the program has."""
        assert self._program is not None
        with suppress(subprocess.TimeoutExpired):
            # A lane may end just before its program, and the other lanes just after.
            await asyncio.to_thread(self._program.wait, _END_SECONDS)
        ended = self._program.poll() is not None
        for lane in [lane for lane in self._free if ended or lane.reader.at_eof()]:
            lane.writer.close()
            self._free.remove(lane)

    async def _try(self, structure: Compilation, turn: Turn) -> ServiceError | None:
        lane = await self._lane()
        seconds = self._settings.structure_ms / 1000 * (1 if structure.asked else _UNASKED_PART)
        line = await lane.ask({"kind": structure.kind, "text": structure.text, "seconds": seconds})
        if not line:
            lane.writer.close()
            await self._drop_broken()
            raise Unavailable(_ENDED, retry_after=5)
        self._free.append(lane)
        answer = json.loads(line)
        turn.seconds = answer["seconds"]
        return self._verdict(answer)

    def _verdict(self, answer: dict[str, object]) -> ServiceError | None:
        if "limit" in answer:
            most = {
                "time": f"{self._settings.structure_ms} ms",
                "memory": f"{self._settings.structure_mib} MiB",
            }[str(answer["limit"])]
            return InvalidRequest(
                f"structured output: compiling it takes more than {most}; long maxLength, counted "
                "repetitions and many optional properties cost most",
                code="structure_too_large",
            )
        if "refused" not in answer:
            return None
        kind = UnsupportedFeature if answer.get("unsupported") else InvalidRequest
        return kind(f"structured output: {answer['refused']}")


def start_program(sockets: Sequence[int]) -> "subprocess.Popen[bytes]":
    """Start trial.py with these sockets; its terms go to its standard input."""
    # -P, because the script's folder holds modules with the names of libraries.
    command = [sys.executable, "-P", str(Path(trial.__file__)), *map(str, sockets)]
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        pass_fds=sockets,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
    )


def _send(program: "subprocess.Popen[bytes]", terms: bytes) -> None:
    assert program.stdin is not None
    with program.stdin as stdin:
        stdin.write(terms)
