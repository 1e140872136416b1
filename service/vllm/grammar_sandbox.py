"""Structures are compiled and walked before the gate, in processes with limits, or refused."""

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
from typing import Any

import service
from service.admission.gate import Gate
from service.admission.preparation import Stage, Turn
from service.common.error_messages import quote
from service.context import current_context
from service.errors import (
    ConfigurationError,
    InvalidRequest,
    ServiceError,
    Unavailable,
    UnsupportedFeature,
)
from service.settings.gate import PreparationSettings

_log = logging.getLogger(__name__)

_REMEMBERED = 4096
_END_SECONDS = 1.0
_DEAR = "long maxLength, counted repetitions and many optional properties cost most"
_UNASKED_PART = 0.1
"""Part of the time that compiling may take, for a structure that can be left out."""
_ALL = ""
"""Stands for every tenant: for a structure that was refused because of its time in the engine."""
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

    @property
    def digest(self) -> bytes:
        """Equal for equal structures."""
        text = self.text.encode(errors="surrogatepass")
        return hashlib.blake2b(text, key=f"{self.kind} {self.asked}".encode()).digest()


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


class GrammarSandbox:
    """Compiles structures in the processes of grammar_worker.py, in fair turns of a stage.

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
        self._verdicts: OrderedDict[tuple[str, bytes], ServiceError | float] = OrderedDict()

    def begin(self) -> None:
        """Start the program; it waits for the tokens when it has loaded."""
        pairs = [socket.socketpair() for _ in range(self._settings.compilers)]
        self._program = start_program([there.fileno() for _, there in pairs])
        for _, there in pairs:
            there.close()
        self._sockets = [here for here, _ in pairs]

    async def open(
        self, tokens: str, *, any_whitespace: bool, plain_tokens: str | None = None
    ) -> None:
        """Give the program the serialised `xgrammar.TokenizerInfo`, and wait until it is ready.

        `plain_tokens` is another one for all structures but structural tags, if they have one.
        """
        terms = {
            "tokens": tokens,
            "plain_tokens": plain_tokens,
            "any_whitespace": any_whitespace,
            "memory": self._settings.structure_mib << 20,
            "mask": self._settings.mask_ms / 1000,
        }
        self._terms = json.dumps(terms).encode() + b"\n"
        try:
            await self._connect()
        except OSError as error:
            raise ConfigurationError(
                "structured output: the process that compiles structures has not started; its own "
                "message above says why"
            ) from error

    async def check(self, structure: Compilation) -> float:
        """Seconds of the longest mask, once the structure is known to keep its limits.

        Raises InvalidRequest for one that does not, UnsupportedFeature for one that would be
        enforced only in part, and as `Stage.run`. The tenant is the current request's.
        """
        known = (current_context().tenant.cache_domain, structure.digest)
        if known not in self._verdicts and (_ALL, structure.digest) in self._verdicts:
            known = (_ALL, structure.digest)
        if known not in self._verdicts:
            size = len(structure.text.encode(errors="surrogatepass"))
            verdict = await self._stage.run(size, lambda turn: self._try(structure, turn))
            self._remember(known, verdict)
        self._verdicts.move_to_end(known)
        verdict = self._verdicts[known]
        if isinstance(verdict, ServiceError):
            raise verdict
        return verdict

    def refuse(self, structure: Compilation, error: ServiceError) -> None:
        """Refuse a structure with this error from now on, whoever asks for it."""
        self._remember((_ALL, structure.digest), error)
        for known in [each for each in self._verdicts if each[1] == structure.digest]:
            self._verdicts[known] = error

    def _remember(self, known: tuple[str, bytes], verdict: ServiceError | float) -> None:
        self._verdicts[known] = verdict
        if len(self._verdicts) > _REMEMBERED:
            self._verdicts.popitem(last=False)

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

    async def _try(self, structure: Compilation, turn: Turn) -> ServiceError | float:
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

    def _verdict(self, answer: dict[str, Any]) -> ServiceError | float:
        if "limit" in answer:
            at = f" at {answer['at'][:200]}" if answer.get("at") else ""
            settings = self._settings
            said = {
                "time": f"compiling it{at} takes more than {settings.structure_ms} ms; {_DEAR}",
                "memory": f"compiling it{at} takes more than {settings.structure_mib} MiB; {_DEAR}",
                "mask": f"finding the tokens that it allows next{at} takes more than "
                f"{settings.mask_ms} ms; alternatives that begin alike cost most",
            }[answer["limit"]]
            return InvalidRequest(f"structured output: {said}", code="structure_too_large")
        if "dead_end" in answer:
            after = f" after {quote(answer['dead_end'])}" if answer["dead_end"] else ""
            return dead_end(after or f" for its part {answer.get('at', '/')[:200]}")
        if "refused" not in answer:
            return float(answer["mask"])
        kind = UnsupportedFeature if answer.get("unsupported") else InvalidRequest
        return kind(f"structured output: {answer['refused']}")


def dead_end(after: str) -> InvalidRequest:
    """The error of a structure that cannot be completed from some place on."""
    return InvalidRequest(
        f"structured output: no text{after} can complete it; look for a part that always contains "
        "itself, or for characters that exclude all",
        code="structure_dead_end",
    )


def start_program(sockets: Sequence[int]) -> "subprocess.Popen[bytes]":
    """Start grammar_worker.py with these sockets; its terms go to its standard input."""
    command = [sys.executable, "-P", "-m", "service.vllm.grammar_worker"]
    found = [str(Path(service.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    return subprocess.Popen(
        [*command, *map(str, sockets)],
        stdin=subprocess.PIPE,
        pass_fds=sockets,
        start_new_session=True,
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "PYTHONPATH": os.pathsep.join(filter(None, found)),
        },
    )


def _send(program: "subprocess.Popen[bytes]", terms: bytes) -> None:
    assert program.stdin is not None
    with program.stdin as stdin:
        stdin.write(terms)
