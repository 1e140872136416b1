"""Label reads, which go to vLLM's engine past the states that its client keeps of requests."""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache

from vllm.lora.request import LoRARequest
from vllm.sampling_params import RequestOutputKind, SamplingParams
from vllm.v1.engine import EngineCoreOutput, EngineCoreRequest
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.outputs import LogprobsLists

from service.context import current_context
from service.engine.contract import Progress
from service.engine.protocol import LabelLogprobs
from service.errors import EngineDead, ServiceError
from service.gate.meter import Meter
from service.gate.ticket import Demand
from service.together import abreast
from service.vllm.fast.dispatcher import Steps
from service.vllm.fast.engine_request import completed, message
from service.vllm.fast.request_state import OwnState, run_own
from service.vllm.fast.step import Step
from service.vllm.generation import engine_wait, explain
from service.vllm.rank import Rank

_KEPT = 1024


def read_parameters(token_ids: Sequence[int]) -> SamplingParams:
    """vLLM's parameters of a read: one step, with the log-probabilities of these tokens."""
    return SamplingParams(
        max_tokens=1,
        temperature=0.0,
        logprob_token_ids=list(token_ids),
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
        skip_clone=True,
    )


class LabelReads:
    """Makes label reads for an engine.

    vLLM's client gives each request a state, a detokenizer, a queue and an output object. A read
    has one output, with the numbers that were asked for, so that it needs none of these.
    """

    def __init__(self, llm: AsyncLLM, steps: Steps, adapter_requests: Counter[int]) -> None:
        self._llm = llm
        self._steps = steps
        self._adapter_requests = adapter_requests
        self._parameters = lru_cache(_KEPT)(lambda ids: completed(llm, read_parameters(ids)))

    def make(
        self,
        name: str,
        prompt: Sequence[int],
        token_ids: tuple[int, ...],
        *,
        lora: LoRARequest | None,
        salt: str,
        rank: Rank,
        trace_headers: Mapping[str, str] | None,
    ) -> "LabelReading":
        """A read, not yet made, under a `name` that no other request has.

        Raises InvalidRequest for a prompt that is empty or too long, and for unknown tokens.
        """
        try:
            made = message(
                self._llm,
                name,
                prompt,
                self._parameters(token_ids),
                lora=lora,
                salt=salt,
                priority=int(rank),
                trace_headers=trace_headers,
            )
        except Exception as error:
            raise explain(error) or error from error
        return LabelReading(self._llm, self._steps, made, self._adapter_requests)


class LabelReading:
    """One label read, which the gate runs and a step of the engine ends (`steps.OwnRequest`)."""

    def __init__(
        self,
        llm: AsyncLLM,
        steps: Steps,
        made: EngineCoreRequest,
        adapter_requests: Counter[int],
    ) -> None:
        self.request_id = made.request_id
        self._llm = llm
        self._steps = steps
        self._message = made
        self._adapter_requests = adapter_requests
        self._runs = 1
        self._meter: Meter | None = None
        self._ended: asyncio.Future[LabelLogprobs] | None = None

    @property
    def demand(self) -> Demand:
        """One token after the prompt."""
        prompt = len(self._message.prompt_token_ids)
        return Demand(prompt, 1, restartable=True, stand_back=self._stand_back)

    def _stand_back(self) -> None:
        self._message.priority = int(Rank.ABOVE_SHARE)

    def explain(self, error: Exception) -> ServiceError | None:
        return explain(error)

    def restart(self) -> None:
        """Begin another run under another name: the engine may still know the last one's."""
        self._runs += 1
        self.request_id = f"{self._message.external_req_id}-{self._runs}"
        self._message.request_id = self.request_id

    async def push(self, meter: Meter) -> None:
        """Run the read; raises as `run_own`."""
        await abreast()
        trace = current_context().trace
        if trace is not None and self._llm.output_processor.tracing_enabled:
            self._message.trace_headers = trace.headers  # those of the stream that has begun
        self._meter = meter
        self._state = OwnState(self._llm.output_processor, self._message)
        self._ended = asyncio.get_running_loop().create_future()
        await run_own(self._llm, self._steps, self, self._message, self._state, self._ended)

    def take(self, output: EngineCoreOutput, step: Step) -> bool:
        """End with the read's only output, and count it."""
        assert self._meter is not None
        assert self._ended is not None
        self._steps.forget(self.request_id)
        state = self._state
        state.count(output, step)
        if output.new_logprobs is None:
            raise EngineDead.midway()
        if (lora := self._message.lora_request) is not None:
            self._adapter_requests[lora.lora_int_id] += 1
        wait = engine_wait(state.stats)
        self._meter.add(Progress(state.prompt_len, state.num_cached_tokens, 1, wait))
        if not self._ended.done():
            self._ended.set_result(self._read(output.new_logprobs))
        return False

    def _read(self, found: LogprobsLists) -> LabelLogprobs:
        """The log-probabilities in the order in which they were asked for."""
        token_ids, logprobs, *_ = found
        read = dict(zip(token_ids[0].tolist(), logprobs[0].tolist(), strict=True))
        return LabelLogprobs(
            logprobs=[read[each] for each in self._message.sampling_params.logprob_token_ids],
            prompt_tokens=self._state.prompt_len,
            cached_tokens=self._state.num_cached_tokens,
        )

    def release(self) -> None:
        """Hand on nothing: a read has no text."""

    def fail(self, error: Exception) -> None:
        self._steps.forget(self.request_id)
        if self._ended is not None and not self._ended.done():
            self._ended.set_exception(error)

    @property
    def result(self) -> LabelLogprobs:
        """The log-probabilities, once the read has ended."""
        assert self._ended is not None
        return self._ended.result()
