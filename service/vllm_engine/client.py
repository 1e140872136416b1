"""vLLM's engine client with the gate in front of it."""

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager
from contextvars import ContextVar
from typing import Any

from vllm.exceptions import VLLMClientError, VLLMValidationError
from vllm.lora.request import LoRARequest
from vllm.outputs import RequestOutput
from vllm.sampling_params import RequestOutputKind, SamplingParams
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

from service.context import current_context
from service.engine.protocol import Adapter
from service.errors import EngineDead, InvalidRequest, ServiceError
from service.gate.gate import Gate
from service.gate.meter import Progress, StreamObserver
from service.gate.preparation import Preparation
from service.gate.stream import gated, pushed
from service.gate.ticket import Demand
from service.tenants.salt import CacheSalts
from service.vllm_engine.renderer import StagedRenderer
from service.vllm_engine.structured_outputs import tried
from service.vllm_engine.structures import StructureTrials

_FOLDED_TOKENS = 8
"""Tokens in a delta of an answer that is sent whole; each delta costs about 15 microseconds."""


_UNSAMPLED = {"traceparent": f"00-{1:032x}-{1:016x}-00"}
"""Header for requests that are not traced: without it vLLM would begin its own trace."""


_noted: ContextVar[list["Generation"]] = ContextVar("noted_generations")


@contextmanager
def noted_generations() -> Iterator[None]:
    """Note the requests that vLLM's handlers make of the client within this block."""
    token = _noted.set([])
    try:
        yield
    finally:
        _noted.reset(token)


def noted() -> list["Generation"]:
    """The requests that were noted in the block so far."""
    return _noted.get()


class GatedClient:
    """Stands in for AsyncLLM, to vLLM's own OpenAI handlers too, which call `generate`.

    Streams and `check_admission` go through the gate, structures are tried before it, and the
    `renderer` takes fair turns; all else is the engine's. What a client
    could set to go round the gate (priority, request id, rank, session) is overwritten, and so is
    the salt of the prefix cache: it is the tenant's.
    """

    def __init__(
        self,
        engine: AsyncLLM,
        gate: Gate,
        observer: StreamObserver,
        preparation: Preparation,
        trials: StructureTrials,
        *,
        traced: bool = False,
    ) -> None:
        self.renderer = StagedRenderer(engine.renderer, preparation)
        self._trials = trials
        self._engine = engine
        self._gate = gate
        self._observer = observer
        self._serial = itertools.count()
        self.untraced = _UNSAMPLED if traced else None
        """Headers for untraced requests: unsampled while vLLM exports spans, else None."""
        self._salts = CacheSalts()
        self.adapter_requests: Counter[int] = Counter()
        """Requests that got their first token, by the adapter's engine id."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def check_admission(self, n: int = 1, request_id: str | None = None) -> None:
        """Accept every request: the gate decides later, once it knows the prompt."""

    def generate(
        self, prompt: Any, sampling_params: Any, request_id: str, **options: Any
    ) -> AsyncGenerator[RequestOutput, None]:
        """A `stream` for vLLM's handlers, which turn its error into text: the request keeps it.

        Within `noted_generations` the request is noted, so that it can be pushed instead.
        """
        request = self._request(prompt, sampling_params, options)
        if (requests := _noted.get(None)) is not None:
            requests.append(request)
        return _kept(self._stream(request))

    def stream(
        self, prompt: Any, sampling_params: Any, **options: Any
    ) -> AsyncGenerator[RequestOutput, None]:
        """Stream a generation under a permit of the current request.

        A final output is joined from deltas, so that the gate sees tokens as they come.
        """
        return self._stream(self._request(prompt, sampling_params, options))

    async def push(self, request: "Generation", take: Callable[[RequestOutput], None]) -> None:
        """Run a request as its `stream`; `take` gets each output in the engine's own step."""
        await pushed(self._gate, self._observer, request, take)

    def _request(
        self, prompt: Any, params: SamplingParams, options: dict[str, Any]
    ) -> "Generation":
        options |= {"priority": 0, "data_parallel_rank": None, "session_id": None}
        options["trace_headers"] = self.untraced
        context = current_context()
        own_id = f"{context.request_id}-{next(self._serial)}"
        lora = options.get("lora_request")
        # The adapter's name in the engine contains its digest.
        salt = self._salts.salt(context.tenant, lora.lora_name if lora else "")
        prompt = {**prompt, "cache_salt": salt}
        return Generation(self._engine, prompt, params, own_id, options, self.adapter_requests)

    def _stream(self, request: "Generation") -> AsyncGenerator[RequestOutput, None]:
        folded = request.fold()
        stream = gated(self._gate, self._observer, request)
        if (structure := request.params.structured_outputs) is not None:
            stream = tried(self._trials, structure, stream)
        return _fold(stream) if folded else stream

    def encode(self, *_: Any, **__: Any) -> AsyncGenerator[Any, None]:
        """Pooling is not served by this engine."""
        raise InvalidRequest("This model is served for generation and classification only.")


async def _kept(stream: AsyncGenerator[RequestOutput, None]) -> AsyncGenerator[RequestOutput, None]:
    context = current_context()
    async with aclosing(stream):
        try:
            async for output in stream:
                yield output
        except ServiceError as error:
            context.stream_failure = error
            raise


async def _fold(deltas: AsyncGenerator[RequestOutput, None]) -> AsyncGenerator[RequestOutput, None]:
    """The one output that the engine would have given for FINAL_ONLY."""
    whole: RequestOutput | None = None
    async for delta in deltas:
        if whole is None:
            whole = delta
        else:
            whole.add(delta, aggregate=True)
    if whole is not None:
        whole.outputs.sort(key=lambda output: output.index)
        yield whole


class Generation:
    """One generation request to vLLM."""

    def __init__(
        self,
        engine: AsyncLLM,
        prompt: Any,
        params: SamplingParams,
        request_id: str,
        options: dict[str, Any],
        adapter_requests: Counter[int],
    ) -> None:
        self.params = params
        self._engine = engine
        self._prompt = prompt
        self._id = request_id
        self._options = options
        tokens = len(prompt["prompt_token_ids"])
        room = engine.model_config.max_model_len - tokens
        self.demand = Demand(tokens, params.max_tokens or max(0, room), params.n)
        self._adapter = options.get("lora_request")
        self._adapter_requests = adapter_requests

    @property
    def pushable(self) -> bool:
        """True for a stream of one answer that needs no trial before the gate."""
        deltas = self.params.output_kind is RequestOutputKind.DELTA
        return deltas and self.params.n == 1 and self.params.structured_outputs is None

    def fold(self) -> bool:
        """Have an answer of many tokens that is wanted whole made in deltas; whether it is one."""
        final_only = self.params.output_kind is RequestOutputKind.FINAL_ONLY
        if not final_only or self.params.max_tokens == 1:
            return False
        self.params = self.params.clone()
        self.params.output_kind = RequestOutputKind.DELTA
        self.params.stream_interval = _FOLDED_TOKENS
        return True

    def start(self) -> AsyncGenerator[RequestOutput, None]:
        stream: AsyncGenerator[RequestOutput, None] = self._engine.generate(
            self._prompt, self.params, self._id, **self._traced_options()
        )
        return stream

    async def push(self, take: Callable[[RequestOutput], None]) -> None:
        options = self._traced_options()
        queue = await self._engine.add_request(self._id, self._prompt, self.params, **options)
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def put(output: Any) -> None:
            if ended.done():
                return
            try:
                if isinstance(output, Exception):
                    raise output
                take(output)
            except Exception as error:
                ended.set_exception(error)
                return
            if output.finished:
                ended.set_result(None)

        # vLLM's output handler calls this for every step that has something for the request.
        queue.put = put
        if (early := queue.get_nowait()) is not None:
            put(early)
        try:
            await ended
        except BaseException:
            await self._engine.abort(queue.request_id, internal=True)
            raise

    def _traced_options(self) -> dict[str, Any]:
        # A stream has headers of its own, once it starts.
        trace = current_context().trace
        return self._options | ({"trace_headers": trace.headers} if trace else {})

    def progress(self, item: RequestOutput) -> Progress:
        if self._adapter is not None:
            self._adapter_requests[self._adapter.lora_int_id] += 1
            self._adapter = None  # counted
        times = item.metrics
        return Progress(
            prompt_tokens=len(item.prompt_token_ids or ()),
            cached_tokens=item.num_cached_tokens or 0,
            new_tokens=sum(len(output.token_ids) for output in item.outputs),
            engine_wait=max(0.0, times.scheduled_ts - times.queued_ts) if times else None,
        )

    def explain(self, error: Exception) -> ServiceError | None:
        return explain(error)


def explain(error: Exception) -> ServiceError | None:
    """The service's error for one that vLLM raised, None for one that it does not know."""
    if isinstance(error, EngineDeadError):
        return EngineDead("The engine ended before the answer was complete.", retry_after=5)
    if isinstance(error, VLLMValidationError):
        return InvalidRequest(str(error.args[0]), param=error.parameter)
    if isinstance(error, EngineGenerateError) and isinstance(error.__cause__, ValueError):
        return InvalidRequest(str(error.__cause__))
    if isinstance(error, VLLMClientError | ValueError):
        return InvalidRequest(str(error))
    return None


def lora_request(adapter: Adapter | None) -> LoRARequest | None:
    """Name of an adapter within vLLM.

    vLLM treats two requests with one adapter name as equal and hashes name and path into every
    cached block, so each version has its own name.
    """
    if adapter is None:
        return None
    return LoRARequest(
        lora_name=adapter.engine_name, lora_int_id=adapter.engine_id, lora_path=adapter.path
    )
