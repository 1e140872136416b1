"""The engine behind the gate, in the place of vLLM's own client."""

import itertools
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any

from service.context import RequestContext, current_context
from service.engine.contract import Engine, Job, LabelQuery, Sink
from service.engine.protocol import LabelLogprobs
from service.errors import InvalidRequest, ServiceError
from service.gate.gate import Gate
from service.gate.meter import Meter, StreamObserver
from service.gate.preparation import Preparation
from service.gate.stream import pushed
from service.gate.ticket import Demand
from service.limits.logprobs import check_prompt_logprobs
from service.settings.limits import LimitSettings
from service.tenants.salt import CacheSalts
from service.together import abreast
from service.vllm.errors import explain
from service.vllm.generation import Generation, Last, keeping
from service.vllm.grammar_sandbox import GrammarSandbox
from service.vllm.guarded import Inbox, guarded
from service.vllm.rank import Rank
from service.vllm.renderer import StagedRenderer
from service.vllm.structured_outputs import compiled_first

USES = (
    "extends vllm.v1.engine.async_llm:AsyncLLM.check_admission",
    "calls vllm.v1.engine.async_llm:AsyncLLM.dead_error",
    "calls vllm.v1.engine.async_llm:AsyncLLM.errored",
    "reads vllm.v1.engine.async_llm:AsyncLLM.renderer",
)
"""What of vLLM this module stands on (docs/vllm.md)."""

_OWN = ("priority", "data_parallel_rank", "session_id", "trace_headers")
"""Options of vLLM's client with which a caller could go round the gate."""


_noted: ContextVar[list[Generation]] = ContextVar("noted_generations")


@contextmanager
def noted_generations() -> Iterator[None]:
    """Note the generations that vLLM's handlers begin within this block."""
    token = _noted.set([])
    try:
        yield
    finally:
        _noted.reset(token)


def noted() -> list[Generation]:
    """The generations that were noted in the block so far; none outside of one."""
    return _noted.get([])


class GatedClient:
    """Stands in for AsyncLLM, to vLLM's own OpenAI handlers too, which call `generate`.

    Streams go through the gate, structures are compiled before it, and the `renderer` takes fair
    turns; all else is the engine's. Options with which a client could go round the gate (priority,
    request id, rank, session) are overwritten, and so is the salt of the prefix cache: it is the
    tenant's.
    """

    def __init__(
        self,
        llm: Any,
        engine: Engine,
        gate: Gate,
        observer: StreamObserver,
        preparation: Preparation,
        sandbox: GrammarSandbox,
        *,
        limits: LimitSettings,
    ) -> None:
        self._limits = limits
        self.renderer = StagedRenderer(llm.renderer, preparation)
        self._sandbox = sandbox
        self._llm = llm
        self.engine = engine
        self._gate = gate
        self._observer = observer
        self._serial = itertools.count()
        self._salts = CacheSalts()
        self._longest: int = llm.model_config.max_model_len

    def __getattr__(self, name: str) -> Any:
        return getattr(self._llm, name)

    def check_admission(self, n: int = 1, request_id: str | None = None) -> None:
        """Accept every request: the gate decides later, once it knows the prompt."""

    def refuse_early(self) -> None:
        """Refuse the current request as `Gate.refuse_early`, before vLLM's models read its body."""
        self._gate.refuse_early(current_context())

    def generate(
        self, prompt: Any, sampling_params: Any, request_id: str, **options: Any
    ) -> AsyncGenerator[Any, None]:
        """A `stream` for vLLM's handlers, which turn its error into text: its request keeps it.

        Raises as `check_prompt_logprobs` if all that are noted in one block of `noted_generations`
        ask for too much.
        """
        request = self.request(prompt, sampling_params, **options)
        if (requests := _noted.get(None)) is not None:
            requests.append(request)
            check_prompt_logprobs(sum(each.prompt_logprobs for each in requests), self._limits)
        return _with_failure_noted(self._stream(request))

    def stream(
        self, prompt: Any, sampling_params: Any, **options: Any
    ) -> AsyncGenerator[Any, None]:
        """Stream a generation under a permit of the current request.

        The tokens of an answer that comes whole are charged step by step, too.
        """
        return self._stream(self.request(prompt, sampling_params, **options))

    async def push(self, request: Generation, sink: Sink[Any]) -> None:
        """Run a request as `stream` does, and hand its outputs to `sink` in the engine's own steps.

        If a guard reads the answer, the sink takes the outputs that it has read, as they come.
        """
        if current_context().answer_guard is None:
            await self._push(request, sink)
            return
        outputs = self._guarded(request, whole=sink.restart is not None)
        async with aclosing(outputs):
            async for output in outputs:
                sink.take(output)

    async def _push(self, request: Generation, sink: Sink[Any]) -> None:
        run = request.into(self.engine, sink)
        if request.params.structured_outputs is None:
            await pushed(self._gate, self._observer, run)
            return
        async with compiled_first(self._sandbox, request.params):
            await pushed(self._gate, self._observer, run)

    def request(
        self, prompt: Any, params: Any, *, prepared: bool = False, **options: Any
    ) -> Generation:
        """One generation as a part of the current request, not yet made.

        `prepared` if the engine has completed the parameters before.
        """
        context, lora = current_context(), options.pop("lora_request", None)
        for name in _OWN:
            options.pop(name, None)
        job = Job(
            self._name(context),
            prompt,
            params,
            adapter=lora,
            cache_salt=self._salt(context, lora),
            priority=int(Rank.of(context.tier)),
            options=options,
            prepared=prepared,
        )
        return Generation(job, self._longest, keeping(context.kept, prompt, params))

    async def read(
        self, prompt: Sequence[int], token_ids: Sequence[int], lora: Any
    ) -> LabelLogprobs:
        """Read log-probabilities directly after a prompt, as a part of the current request."""
        context = current_context()
        query = LabelQuery(
            self._name(context),
            prompt,
            tuple(token_ids),
            adapter=lora,
            cache_salt=self._salt(context, lora),
            priority=int(Rank.of(context.tier)),
        )
        reading = _Reading(self.engine, query)
        await pushed(self._gate, self._observer, reading)
        assert reading.result is not None
        return reading.result

    def _name(self, context: RequestContext) -> str:
        """A name for an engine request, which no other has."""
        return f"{context.request_id}-{next(self._serial)}"

    def _salt(self, context: RequestContext, lora: Any) -> str:
        """The salt of the tenant's cached prefixes; an adapter's name contains its digest."""
        return self._salts.salt(context.tenant, lora.lora_name if lora else "")

    def _stream(self, request: Generation) -> AsyncGenerator[Any, None]:
        if request.whole:
            return self._whole(request)
        if current_context().answer_guard is not None:
            return self._guarded(request, whole=False)
        outputs = self._outputs(request, whole=False)
        current_context().streams.append(outputs)
        return outputs

    def _outputs(self, request: Generation, *, whole: bool) -> AsyncGenerator[Any, None]:
        """The outputs of a generation, which the engine makes while nobody reads them, too."""
        inbox = Inbox(whole=whole)
        return inbox.outputs(partial(self._push, request, inbox))

    def _guarded(self, request: Generation, *, whole: bool) -> AsyncGenerator[Any, None]:
        """The outputs that the current request's guard has read."""
        context = current_context()
        assert context.answer_guard is not None
        made = self._outputs(request, whole=whole)
        outputs = guarded(made, request, context.answer_guard)
        context.streams.append(outputs)
        return outputs

    async def _whole(self, request: Generation) -> AsyncGenerator[Any, None]:
        last = Last()
        await self.push(request, last)
        if last.output is not None:
            yield last.output

    def encode(self, *_: Any, **__: Any) -> AsyncGenerator[Any, None]:
        """Pooling is not served by this engine."""
        raise InvalidRequest("This model is served for generation and classification only.")


class _Reading:
    """One label read, which the gate runs."""

    def __init__(self, engine: Engine, query: LabelQuery) -> None:
        self.result: LabelLogprobs | None = None
        """The log-probabilities, once the read has ended."""
        self._engine = engine
        self._query = query
        self._name = query.id
        self._runs = 1

    @property
    def demand(self) -> Demand:
        """One token after the prompt."""
        prompt = len(self._query.prompt)
        return Demand(prompt, 1, restartable=True, stand_back=self._stand_back)

    def _stand_back(self) -> None:
        self._query.priority = int(Rank.ABOVE_SHARE)

    def explain(self, error: Exception) -> ServiceError | None:
        return explain(error)

    def restart(self) -> None:
        """Begin another run under another name: the engine may still know the last one's."""
        self._runs += 1
        self._query.id = f"{self._name}-{self._runs}"

    async def push(self, meter: Meter) -> None:
        """Run the read, with those that other requests run at this moment."""
        await abreast()
        trace = current_context().trace
        self._query.trace_headers = trace.headers if trace else None
        self.result = await self._engine.logprobs(self._query, meter)


async def _with_failure_noted(
    stream: AsyncGenerator[Any, None],
) -> AsyncGenerator[Any, None]:
    """The stream, whose error is kept as its request's `stream_failure`."""
    context = current_context()
    async with aclosing(stream):
        try:
            async for output in stream:
                yield output
        except ServiceError as error:
            context.stream_failure = error
            raise
