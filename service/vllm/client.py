"""vLLM's engine client behind the gate."""

import itertools
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any

from vllm.lora.request import LoRARequest
from vllm.outputs import RequestOutput
from vllm.sampling_params import SamplingParams
from vllm.v1.engine.async_llm import AsyncLLM

from service.context import RequestContext, current_context
from service.context.kept import Kept, KeptGeneration
from service.engine.protocol import LabelLogprobs
from service.errors import InvalidRequest, ServiceError
from service.gate.gate import Gate
from service.gate.meter import StreamObserver
from service.gate.preparation import Preparation
from service.gate.stream import PushedRequest, gated, pushed
from service.limits.logprobs import check_prompt_logprobs
from service.settings.limits import LimitSettings
from service.tenants.salt import CacheSalts
from service.vllm.fast.dispatcher import Steps
from service.vllm.fast.engine_request import completed
from service.vllm.fast.label_query import LabelReading, LabelReads
from service.vllm.fast.request import OwnAnswer
from service.vllm.generation import Generation
from service.vllm.grammar_sandbox import GrammarSandbox
from service.vllm.guarded import Inbox, guarded
from service.vllm.patches.echoed import with_prompt_logprobs
from service.vllm.push import Last, Push, Sink
from service.vllm.rank import Rank
from service.vllm.renderer import StagedRenderer
from service.vllm.stock import StockAnswer, StockReading
from service.vllm.structured_outputs import compiled_first, with_compiled_grammar

_UNSAMPLED = {"traceparent": f"00-{1:032x}-{1:016x}-00"}
"""Header for requests that are not traced: without it vLLM would begin its own trace."""


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
    """The generations that were noted in the block so far."""
    return _noted.get()


class GatedClient:
    """Stands in for AsyncLLM, to vLLM's own OpenAI handlers too, which call `generate`.

    Streams go through the gate, structures are compiled before it, and the `renderer` takes fair
    turns; all else is the engine's. Options with which a client could go round the gate (priority,
    request id, rank, session) are overwritten, and so is the salt of the prefix cache: it is the
    tenant's.
    """

    def __init__(
        self,
        engine: AsyncLLM,
        gate: Gate,
        observer: StreamObserver,
        preparation: Preparation,
        sandbox: GrammarSandbox,
        *,
        limits: LimitSettings,
        traced: bool = False,
        fast: bool = True,
    ) -> None:
        self._limits = limits
        self.renderer = StagedRenderer(engine.renderer, preparation)
        self._sandbox = sandbox
        self._engine = engine
        self._gate = gate
        self._observer = observer
        self._steps = Steps(engine.output_processor, gate) if fast else None
        self._serial = itertools.count()
        self.untraced = _UNSAMPLED if traced else None
        """Headers for untraced requests: unsampled while vLLM exports spans, else None."""
        self._salts = CacheSalts()
        self.adapter_requests: Counter[int] = Counter()
        """Requests that got their first token, by the adapter's engine id."""
        self.complete = partial(completed, engine)
        """Completes sampling parameters, as `message.completed`."""
        self._make_read: Callable[..., LabelReading | StockReading]
        if self._steps is None:
            self._make_read = partial(StockReading, engine, self.adapter_requests)
        else:
            self._make_read = LabelReads(engine, self._steps, self.adapter_requests).make

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def check_admission(self, n: int = 1, request_id: str | None = None) -> None:
        """Accept every request: the gate decides later, once it knows the prompt."""

    def refuse_early(self) -> None:
        """Refuse the current request as `Gate.refuse_early`, before vLLM's models read its body."""
        self._gate.refuse_early(current_context())

    def generate(
        self, prompt: Any, sampling_params: Any, request_id: str, **options: Any
    ) -> AsyncGenerator[RequestOutput, None]:
        """A `stream` for vLLM's handlers, which turn its error into text: its request keeps it.

        Within `noted_generations` the generation is noted, so that it can be pushed instead. Raises
        as `check_prompt_logprobs` if all that are noted there ask for too much.
        """
        request = self.request(prompt, sampling_params, **options)
        if (requests := _noted.get(None)) is not None:
            requests.append(request)
            check_prompt_logprobs(sum(each.prompt_logprobs for each in requests), self._limits)
        return _with_failure_noted(self._stream(request))

    def stream(
        self, prompt: Any, sampling_params: Any, **options: Any
    ) -> AsyncGenerator[RequestOutput, None]:
        """Stream a generation under a permit of the current request.

        The tokens of an answer that comes whole are charged step by step, too.
        """
        return self._stream(self.request(prompt, sampling_params, **options))

    async def push(self, request: Generation, sink: Sink) -> None:
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

    async def _push(self, request: Generation, sink: Sink) -> None:
        if request.params.structured_outputs is None:
            await self._run(request, sink)
            return
        async with compiled_first(self._sandbox, request.params):
            await self._run(request, sink)

    async def _run(self, request: Generation, sink: Sink) -> None:
        run: PushedRequest
        if self._steps is None:
            run = StockAnswer(request, sink)
        elif request.own:
            run = OwnAnswer(self._engine, request, sink, self._steps)
        else:
            run = Push(request, sink, self._steps)
        await pushed(self._gate, self._observer, run)

    def request(
        self, prompt: Any, params: SamplingParams, *, complete: bool = False, **options: Any
    ) -> Generation:
        """One generation as a part of the current request, not yet made.

        `complete` if the parameters are `message.completed`.
        """
        context = current_context()
        options |= {"priority": int(Rank.of(context.tier))}
        options |= {"data_parallel_rank": None, "session_id": None}
        options["trace_headers"] = self.untraced
        own_id = self._name(context)
        prompt = {**prompt, "cache_salt": self._salt(context, options.get("lora_request"))}
        kept = _keeping(context.kept, prompt, params)
        counts = self.adapter_requests
        return Generation(
            self._engine,
            prompt,
            params,
            own_id,
            options,
            counts,
            kept,
            complete=complete,
            fast=self._steps is not None,
        )

    async def read(
        self, prompt: Sequence[int], token_ids: Sequence[int], lora: LoRARequest | None
    ) -> LabelLogprobs:
        """Read log-probabilities directly after a prompt, as a part of the current request."""
        context = current_context()
        reading = self._make_read(
            self._name(context),
            prompt,
            tuple(token_ids),
            lora=lora,
            salt=self._salt(context, lora),
            rank=Rank.of(context.tier),
            trace_headers=self.untraced,
        )
        await pushed(self._gate, self._observer, reading)
        return reading.result

    def _name(self, context: RequestContext) -> str:
        """A name for an engine request, which no other has."""
        return f"{context.request_id}-{next(self._serial)}"

    def _salt(self, context: RequestContext, lora: LoRARequest | None) -> str:
        """The salt of the tenant's cached prefixes; an adapter's name contains its digest."""
        return self._salts.salt(context.tenant, lora.lora_name if lora else "")

    def _stream(self, request: Generation) -> AsyncGenerator[RequestOutput, None]:
        if request.whole:
            return self._whole(request)
        if current_context().answer_guard is not None:
            return self._guarded(request, whole=False)
        stream: AsyncGenerator[RequestOutput, None]
        stream = gated(self._gate, self._observer, request)
        if request.prompt_logprobs and request.params.n > 1:
            stream = with_prompt_logprobs(stream)
        if request.params.structured_outputs is not None:
            stream = with_compiled_grammar(self._sandbox, request.params, stream)
        return stream

    def _guarded(self, request: Generation, *, whole: bool) -> AsyncGenerator[RequestOutput, None]:
        """The outputs that the current request's guard has read."""
        context = current_context()
        assert context.answer_guard is not None
        inbox = Inbox(whole=whole)
        made = inbox.outputs(partial(self._push, request, inbox))
        outputs = guarded(made, request, context.answer_guard)
        context.streams.append(outputs)
        return outputs

    async def _whole(self, request: Generation) -> AsyncGenerator[RequestOutput, None]:
        last = Last()
        await self.push(request, last)
        if last.output is not None:
            yield last.output

    def encode(self, *_: Any, **__: Any) -> AsyncGenerator[Any, None]:
        """Pooling is not served by this engine."""
        raise InvalidRequest("This model is served for generation and classification only.")


def _keeping(
    kept: Kept | None, prompt: Mapping[str, Any], params: SamplingParams
) -> KeptGeneration | None:
    """The place to keep a generation, None if it is not kept; of a request only the first is."""
    if not isinstance(kept, KeptGeneration):
        return None
    repeatable = params.temperature == 0 or params.seed is not None
    began = kept.ask(prompt["prompt_token_ids"], params, repeatable=repeatable)
    return kept if began else None


async def _with_failure_noted(
    stream: AsyncGenerator[RequestOutput, None],
) -> AsyncGenerator[RequestOutput, None]:
    """The stream, whose error is kept as its request's `stream_failure`."""
    context = current_context()
    async with aclosing(stream):
        try:
            async for output in stream:
                yield output
        except ServiceError as error:
            context.stream_failure = error
            raise
