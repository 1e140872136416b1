"""Compiles and walks structures before admission, in processes with limits, or refuses them."""

import asyncio
import hashlib
import json
import logging
import socket
from asyncio import StreamReader, StreamWriter
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from copy import copy
from dataclasses import dataclass, replace
from multiprocessing.process import BaseProcess
from typing import Any

from vllm.sampling_params import StructuredOutputsParams
from xgrammar import TokenizerInfo

from service.admission.controller import AdmissionController
from service.admission.preparation import FairThreadPool, WorkItem
from service.common.error_messages import quote
from service.context import current_context
from service.engine.contract import Sampling
from service.errors import (
    ConfigurationError,
    InvalidRequest,
    ServiceError,
    Unavailable,
    UnsupportedFeature,
)
from service.settings.admission import PreparationSettings
from service.vllm import grammar_worker
from service.vllm.arguments import BACKEND
from service.vllm.conversion import Compiled, dead_end, structured_outputs
from service.vllm.cpu.forkserver import start_process
from service.vllm.environment import variables_set
from service.vllm.patches.mask_budget import TOO_DEAR
from service.vllm.patches.parsers import CallFrame

USES = ("reads vllm.sampling_params:StructuredOutputsParams._backend",)

_log = logging.getLogger(__name__)

_REMEMBERED = 4096
_REMEMBERED_BYTES = 32 << 20
"""Of grammars' texts; the oldest are compiled again."""
_MOST_ANSWER_BYTES = 4 << 20
_DEAR = "long maxLength, counted repetitions and many optional properties cost most"
_UNASKED_PART = 0.1
"""Share of the time for compiling that a structure gets if it can be left out."""
_ALL = ""
"""Stands for every tenant, for structures that are refused because they were slow in the engine."""
_SINGLE_THREADED = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
"""Variables of the program, which is forked for each structure."""
_ENDED = "The process that compiles structures has ended."


@dataclass(frozen=True, slots=True)
class Compilation:
    """A structure as the engine's compiler takes it.

    `kind` is json, regex, grammar (EBNF) or structural_tag. A structure that the request did not
    ask for gets less time.
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
class Checked:
    """A structure that keeps within the limits, in the engine's form.

    Computing its slowest mask took `seconds`; `unenforced` lists the schema keywords that the
    engine does not enforce.
    """

    kind: str
    text: str
    seconds: float
    unenforced: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Lane:
    """A connection to the program, which takes one structure at a time."""

    program: BaseProcess
    reader: StreamReader
    writer: StreamWriter

    async def ask(self, request: Mapping[str, str | float]) -> bytes:
        """Send a line to the program and return its answer; empty if the lane has ended."""
        self.writer.write(json.dumps(request).encode() + b"\n")
        try:
            return await self.reader.readline()
        except ConnectionError:
            return b""


class GrammarSandbox:
    """Compiles structures in the processes of grammar_worker.py, in the tenants' fair turns.

    A result is cached for its tenant (or salt group), so a tenant waits only once for a structure.
    `begin` starts the program, which takes seconds to load; `open` gives it the tokens.
    """

    def __init__(self, admission: AdmissionController, settings: PreparationSettings) -> None:
        self._settings = settings
        self._stage = FairThreadPool(admission, settings.compilers, settings.max_waiting)
        self._terms = b""
        self._free: list[_Lane] = []
        self._program: BaseProcess | None = None
        self._sockets: list[socket.socket] = []
        self._starting = asyncio.Lock()
        self._verdicts: OrderedDict[tuple[str, bytes], ServiceError | Checked] = OrderedDict()
        self._held = 0

    def begin(self) -> None:
        """Start the program, which loads and then waits for the tokens."""
        pairs = [socket.socketpair() for _ in range(self._settings.compilers + 1)]
        self._sockets = [here for here, _ in pairs]
        theirs = [there for _, there in pairs]
        with variables_set(_SINGLE_THREADED):
            self._program = start_process(grammar_worker.main, theirs)
        for each in theirs:
            each.close()

    async def open(self, tokens: str, *, any_whitespace: bool) -> None:
        """Give the program the serialised `xgrammar.TokenizerInfo`, and wait until it is ready."""
        terms = {
            "tokens": tokens,
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

    async def _connect(self) -> None:
        assert self._program is not None
        control, *lanes = self._sockets
        with control:
            await asyncio.to_thread(control.sendall, self._terms)
        for lane in lanes:
            reader, writer = await asyncio.open_connection(sock=lane, limit=_MOST_ANSWER_BYTES)
            if not await reader.readline():
                raise ConnectionResetError
            self._free.append(_Lane(self._program, reader, writer))

    def stop(self) -> None:
        """End the program and its processes."""
        for lane in self._free:
            lane.writer.close()
        self._free.clear()
        if self._program is not None:
            self._program.terminate()
            self._program.join()

    async def check(self, structure: Compilation) -> Checked:
        """The structure in the engine's form, if it keeps within its limits.

        Raises InvalidRequest if it does not, UnsupportedFeature for one that the compiler does not
        support, and as `FairThreadPool.run`. The tenant is the current request's.
        """
        known = (_ALL, structure.digest)
        if known not in self._verdicts:
            known = (current_context().tenant.cache_domain, structure.digest)
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

    def _remember(self, known: tuple[str, bytes], verdict: ServiceError | Checked) -> None:
        self._held -= _size(self._verdicts.pop(known, None))
        self._verdicts[known] = verdict
        self._held += _size(verdict)
        while len(self._verdicts) > _REMEMBERED or self._held > _REMEMBERED_BYTES:
            self._held -= _size(self._verdicts.popitem(last=False)[1])

    async def _lane(self) -> _Lane:
        """A free lane; the stage admits no more work than lanes, unless the program has ended."""
        async with self._starting:
            if not self._free:
                _log.error("the process that compiles structures has ended; starting it again")
                self.stop()
                await asyncio.to_thread(self.begin)
                try:
                    await self._connect()
                except OSError as error:
                    raise Unavailable(_ENDED, retry_after=5) from error
            return self._free.pop()

    async def _try(self, structure: Compilation, turn: WorkItem) -> ServiceError | Checked:
        lane = await self._lane()
        seconds = self._settings.structure_ms / 1000 * (1 if structure.asked else _UNASKED_PART)
        line = await lane.ask({"kind": structure.kind, "text": structure.text, "seconds": seconds})
        if not line:
            lane.writer.close()
            if lane.program is self._program:
                self.stop()  # its other lanes end too, or are about to
            raise Unavailable(_ENDED, retry_after=5)
        self._free.append(lane)
        answer = json.loads(line)
        turn.seconds = answer["seconds"]
        return _verdict(answer, self._settings)


def _size(verdict: ServiceError | Checked | None) -> int:
    return len(verdict.text) if isinstance(verdict, Checked) else 0


def _verdict(answer: Mapping[str, Any], settings: PreparationSettings) -> ServiceError | Checked:
    """The structure as the engine gets it, or the error of one that is refused."""
    if "limit" in answer:
        at = f" at {answer['at'][:200]}" if answer.get("at") else ""
        said = {
            "time": f"compiling it{at} takes more than {settings.structure_ms} ms; {_DEAR}",
            "memory": f"compiling it{at} takes more than {settings.structure_mib} MiB; {_DEAR}",
            "mask": f"finding the tokens that it allows next{at} takes more than "
            f"{settings.mask_ms} ms; alternatives that begin alike cost most",
        }[answer["limit"]]
        return InvalidRequest(f"structured output: {said}", code="structure_too_large")
    if "dead_end" in answer:
        return dead_end(f" after {quote(answer['dead_end'])}" if answer["dead_end"] else "")
    if "refused" in answer:
        kind = UnsupportedFeature if answer.get("unsupported") else InvalidRequest
        return kind(f"structured output: {answer['refused']}")
    return Checked(answer["kind"], answer["text"], answer["mask"], tuple(answer["unenforced"]))


_KINDS = ("json", "regex", "grammar", "structural_tag")
"""The kinds of structures that are compiled, in vLLM's order."""


def choice(texts: Sequence[str]) -> StructuredOutputsParams:
    """The checked structure of an answer that is one of these texts."""
    structure = StructuredOutputsParams(grammar=choice_as_grammar(texts))
    structure._backend = BACKEND
    return structure


_ESCAPES = str.maketrans(
    {each: f"\\{each}" for each in '\\"'}
    | {chr(code): f"\\u{code:04x}" for code in (*range(0x20), 0x7F)}
)
"""Characters as they stand in a grammar's quotes; xgrammar ends a literal at a raw control."""


def choice_as_grammar(texts: Sequence[str]) -> str:
    """A grammar, in GBNF, of answers that are one of these texts."""
    return "root ::= " + " | ".join(f'"{text.translate(_ESCAPES)}"' for text in texts)


class VllmStructures:
    """Compiles structures in the sandbox; implements `engine.contract.Structures`.

    vLLM's own validation, which would compile on the event loop, is turned off. With `strict` every
    schema must be enforced whole.
    """

    def __init__(self, sandbox: GrammarSandbox, *, strict: bool = False) -> None:
        self._sandbox = sandbox
        self._strict = strict

    @asynccontextmanager
    async def compiled(self, sampling: Sampling) -> AsyncIterator[Sampling]:
        """Compile a structure before a block that runs it; raises as `GrammarSandbox.check`.

        A structure that nevertheless takes too long in the engine is refused from then on.
        """
        structure = sampling.structure
        assert structure is not None
        own, checked = await self.compile(structured_outputs(structure))
        done = None
        if own is not None:
            done = replace(structure, own=own, unenforced=own.unenforced)
            if own.unenforced and structure.asked and (structure.strict or self._strict):
                raise UnsupportedFeature(
                    f"structured output: a grammar cannot enforce {own.unenforced[0]}"
                )
        try:
            yield replace(sampling, structure=done)
        except InvalidRequest as error:
            if checked is not None and error.code == TOO_DEAR:
                self._sandbox.refuse(checked, error)
            raise

    async def compile(
        self, params: StructuredOutputsParams | None
    ) -> tuple[Compiled | None, Compilation | None]:
        """Compile a structure; returns it in the engine's form, and what was compiled.

        If a constraint on tool calls cannot be compiled, the next looser one is used, or none.
        """
        while isinstance(params, CallFrame) and params.looser is not None:
            frame = copy(params)
            looser, frame.looser = params.looser, None
            try:
                return await self._compile(frame)
            except InvalidRequest:
                params = looser()
        return (None, None) if params is None else await self._compile(copy(params))

    async def _compile(
        self, structure: StructuredOutputsParams
    ) -> tuple[Compiled, Compilation | None]:
        if structure.choice is not None:
            structure.grammar, structure.choice = choice_as_grammar(structure.choice), None
        structure._backend = BACKEND
        if structure.json_object:
            return Compiled(structure, 0.0), None
        if structure.json is not None:
            schema = structure.json
            structure.json = schema if isinstance(schema, str) else json.dumps(schema)
        kind = next(each for each in _KINDS if getattr(structure, each) is not None)
        asked = not isinstance(structure, CallFrame)
        compilation = Compilation(kind, getattr(structure, kind), asked)
        checked = await self._sandbox.check(compilation)
        setattr(structure, kind, None)
        setattr(structure, checked.kind, checked.text)
        return Compiled(structure, checked.seconds, checked.unenforced), compilation

    def stop(self) -> None:
        """End the sandbox."""
        self._sandbox.stop()


async def open_sandbox(sandbox: GrammarSandbox, llm: Any) -> None:
    """Give the sandbox the tokens of the engine's model, as vLLM's own backend reads them."""
    tokenizer = llm.renderer.get_tokenizer()
    tokens = TokenizerInfo.from_huggingface(tokenizer, vocab_size=llm.model_config.get_vocab_size())
    compact = llm.vllm_config.structured_outputs_config.disable_any_whitespace
    await sandbox.open(tokens.serialize_json(), any_whitespace=not compact)
