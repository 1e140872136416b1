"""Generations and label reads by vLLM's public client alone: `AsyncLLM.generate`.

This way is right on every version of vLLM whose client has these calls. The fast way (`own_answer`,
`label_reads`, `steps`, `wire`) does the same at about half the cost, and stands on vLLM's insides.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace

from vllm.inputs import tokens_input
from vllm.lora.request import LoRARequest
from vllm.outputs import RequestOutput
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.async_llm import AsyncLLM

from service.context import current_context
from service.engine.protocol import LabelRead
from service.errors import EngineDead, ServiceError
from service.gate.meter import Meter, Progress
from service.gate.ticket import Demand
from service.together import abreast
from service.vllm_engine.generation import engine_wait, explain
from service.vllm_engine.label_reads import read_parameters
from service.vllm_engine.push import Run
from service.vllm_engine.rank import Rank


class StockAnswer(Run):
    """Runs a generation by `AsyncLLM.generate`, and hands its outputs to a sink.

    An answer that comes whole is taken step by step too, so that its tokens are charged as they are
    made.
    """

    async def push(self, meter: Meter) -> None:
        await abreast()
        request, whole = self._request, self._request.whole
        if whole:
            request.params.output_kind = RequestOutputKind.CUMULATIVE
        ended: dict[int, RequestOutput] = {}
        async with aclosing(request.start()) as outputs:
            async for output in outputs:
                progress = request.progress(output)
                if not whole:
                    meter.add(progress)
                    self._sink.take(output)
                    continue
                for each in output.outputs:
                    ended[each.index] = output
                tokens = sum(_tokens(each) for each in ended.values())
                meter.add(replace(progress, new_tokens=tokens - meter.tokens))
        if whole and ended:
            self._sink.take(_together(ended))


def _tokens(output: RequestOutput) -> int:
    return sum(len(each.token_ids) for each in output.outputs)


def _together(outputs: Mapping[int, RequestOutput]) -> RequestOutput:
    """The last outputs of several sequences as one."""
    made = outputs[max(outputs)]
    made.outputs = [
        each
        for _, output in sorted(outputs.items())
        for each in output.outputs
        if each.finish_reason
    ]
    made.finished = True
    return made


class StockReads:
    """Makes label reads that are requests of vLLM's client."""

    def __init__(self, llm: AsyncLLM, adapter_requests: Counter[int]) -> None:
        self._llm = llm
        self._adapter_requests = adapter_requests

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
    ) -> "StockReading":
        """A read, not yet made, under a `name` that no other request has."""
        return StockReading(
            self._llm, self._adapter_requests, name, prompt, token_ids, lora, salt, rank,
            trace_headers,
        )  # fmt: skip


class StockReading:
    """One label read, which the gate runs."""

    def __init__(
        self,
        llm: AsyncLLM,
        adapter_requests: Counter[int],
        name: str,
        prompt: Sequence[int],
        token_ids: tuple[int, ...],
        lora: LoRARequest | None,
        salt: str,
        rank: Rank,
        trace_headers: Mapping[str, str] | None,
    ) -> None:
        self.result = LabelRead(logprobs=[], prompt_tokens=0, cached_tokens=0)
        """The log-probabilities in the order in which they were asked for, once it has ended."""
        self._llm = llm
        self._adapter_requests = adapter_requests
        self._name = name
        self._runs = 1
        self._prompt = {**tokens_input(list(prompt)), "cache_salt": salt}
        self._token_ids = token_ids
        self._lora = lora
        self._priority = int(rank)
        self._trace_headers = trace_headers

    @property
    def demand(self) -> Demand:
        """One token after the prompt."""
        tokens = len(self._prompt["prompt_token_ids"])
        return Demand(tokens, 1, restartable=True, stand_back=self._stand_back)

    def _stand_back(self) -> None:
        self._priority = int(Rank.ABOVE_SHARE)

    def explain(self, error: Exception) -> ServiceError | None:
        return explain(error)

    def restart(self) -> None:
        """Begin another run under another name: the engine may still know the last one's."""
        self._runs += 1

    async def push(self, meter: Meter) -> None:
        """Run the read; raises EngineDead if it ends without log-probabilities."""
        await abreast()
        trace = current_context().trace
        name = self._name if self._runs == 1 else f"{self._name}-{self._runs}"
        outputs = self._llm.generate(
            self._prompt,
            read_parameters(self._token_ids),
            name,
            lora_request=self._lora,
            priority=self._priority,
            trace_headers=trace.headers if trace else self._trace_headers,
        )
        async with aclosing(outputs):
            async for output in outputs:
                self._take(output, meter)

    def _take(self, output: RequestOutput, meter: Meter) -> None:
        (sequence,) = output.outputs
        if not sequence.logprobs:
            raise EngineDead.midway()
        if self._lora is not None:
            self._adapter_requests[self._lora.lora_int_id] += 1
        (found,) = sequence.logprobs
        prompt, cached = len(output.prompt_token_ids or ()), output.num_cached_tokens or 0
        meter.add(Progress(prompt, cached, 1, engine_wait(output.metrics)))
        self.result = LabelRead(
            logprobs=[found[each].logprob for each in self._token_ids],
            prompt_tokens=prompt,
            cached_tokens=cached,
        )
