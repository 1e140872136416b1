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
from vllm.outputs import CompletionOutput, RequestOutput
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.async_llm import AsyncLLM

from service.context import current_context
from service.engine.contract import Progress
from service.engine.protocol import LabelLogprobs
from service.errors import EngineDead, ServiceError
from service.gate.meter import Meter
from service.gate.ticket import Demand
from service.together import abreast
from service.vllm.fast.label_query import read_parameters
from service.vllm.generation import Generation, engine_wait, explain
from service.vllm.push import Run, Sink
from service.vllm.rank import Rank


class StockAnswer(Run):
    """Runs a generation by `AsyncLLM.generate`, and hands its outputs to a sink.

    An answer that comes whole is taken step by step too, so that its tokens are charged as they are
    made.
    """

    def __init__(self, request: Generation, sink: Sink) -> None:
        super().__init__(request, sink)
        self._whole = request.whole
        if self._whole:
            request.params.output_kind = RequestOutputKind.CUMULATIVE

    async def push(self, meter: Meter) -> None:
        await abreast()
        request, whole = self._request, self._whole
        last: RequestOutput | None = None
        said: dict[int, CompletionOutput] = {}
        async with aclosing(request.start()) as outputs:
            async for output in outputs:
                progress = request.progress(output)
                if not whole:
                    meter.add(progress)
                    self._sink.take(output)
                    continue
                last = output
                said |= {each.index: each for each in output.outputs}
                tokens = sum(len(each.token_ids) for each in said.values())
                meter.add(replace(progress, new_tokens=tokens - meter.tokens))
        if last is not None:
            last.outputs = [said[index] for index in sorted(said)]
            last.finished = True
            self._sink.take(last)


class StockReading:
    """One label read, which the gate runs, under a `name` that no other request has."""

    def __init__(
        self,
        llm: AsyncLLM,
        adapter_requests: Counter[int],
        name: str,
        prompt: Sequence[int],
        token_ids: tuple[int, ...],
        *,
        lora: LoRARequest | None,
        salt: str,
        rank: Rank,
        trace_headers: Mapping[str, str] | None,
    ) -> None:
        self.result = LabelLogprobs(logprobs=[], prompt_tokens=0, cached_tokens=0)
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
        self.result = LabelLogprobs(
            logprobs=[found[each].logprob for each in self._token_ids],
            prompt_tokens=prompt,
            cached_tokens=cached,
        )
