"""One generation as a part of the current request: a job for the engine, and its demand."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from vllm.lora.request import LoRARequest
from vllm.sampling_params import RequestOutputKind, SamplingParams

from service.context import current_context
from service.context.kept import KeptGeneration
from service.engine.contract import Engine, Job, Sink
from service.engine.protocol import Adapter, TextSink
from service.errors import ServiceError
from service.gate.meter import Meter
from service.gate.ticket import Demand
from service.together import abreast
from service.vllm.errors import explain
from service.vllm.patches.call_frame import asks_for_structure
from service.vllm.rank import Rank


class Generation:
    """One generation, not yet made; each run of it is a job under a name of its own.

    `longest` is the model's context in tokens.
    """

    def __init__(self, job: Job, longest: int, kept: KeptGeneration | None = None) -> None:
        self.params: SamplingParams = job.parameters
        self._job = job
        self._name = job.id
        self._runs = 1
        self._longest = longest
        self._kept = kept

    @property
    def demand(self) -> Demand:
        """Demand of the request; not kept, since its callbacks refer to this object."""
        tokens = len(self._job.prompt["prompt_token_ids"])
        most = self.params.max_tokens or max(0, self._longest - tokens)
        return Demand(tokens, most, self.params.n, cut=self._end, stand_back=self._rank_above_share)

    @property
    def prompt_logprobs(self) -> int:
        """Number of log-probabilities of the prompt that vLLM builds, for all answers together."""
        alternatives: int | None = self.params.prompt_logprobs
        each = 0 if alternatives is None else 1 + alternatives
        return self.demand.slots * self.demand.prompt_tokens * each

    @property
    def whole(self) -> bool:
        """True for an answer that the engine gives in one output."""
        return self.params.output_kind is RequestOutputKind.FINAL_ONLY

    def into(self, engine: Engine, sink: Sink[Any]) -> "Run":
        """A run of this generation, which hands its outputs to a sink."""
        return Run(engine, self, sink if self._kept is None else _Keeping(sink, self, self._kept))

    def job(self) -> Job:
        """What the engine is told for the next run."""
        # A stream gets its own trace headers when it starts.
        if trace := current_context().trace:
            self._job.trace_headers = trace.headers
        return self._job

    def renew(self) -> None:
        """Begin another run, under another name: the engine may still know the last one's."""
        self._runs += 1
        self._job = replace(self._job, id=f"{self._name}-{self._runs}")

    def _rank_above_share(self) -> None:
        self._job.priority = int(Rank.ABOVE_SHARE)

    def _end(self) -> None:
        self._job.end()


class Run:
    """Runs one generation into a sink; ends with the error of either."""

    def __init__(self, engine: Engine, request: Generation, sink: Sink[Any]) -> None:
        self.demand = replace(request.demand, restartable=sink.restart is not None)
        self._engine = engine
        self._request = request
        self._sink = sink

    async def push(self, meter: Meter) -> None:
        """Run the job, with those that other requests run at this moment."""
        await abreast()
        await self._engine.run(self._request.job(), self._sink, meter)

    def explain(self, error: Exception) -> ServiceError | None:
        return explain(error)

    def restart(self) -> None:
        assert self._sink.restart is not None
        self._request.renew()
        self._sink.restart()


class Last:
    """Keeps the last output."""

    def __init__(self) -> None:
        self.output: Any = None

    def take(self, output: Any) -> TextSink | None:
        self.output = output
        return None

    def restart(self) -> None:
        self.output = None


class _Keeping:
    """Keeps the tokens of the first answer, and hands all outputs on."""

    def __init__(self, sink: Sink[Any], request: Generation, kept: KeptGeneration) -> None:
        self._sink = sink
        self._structured = asks_for_structure(request.params)
        self._kept = kept
        self.restart: Callable[[], None] | None = self._restart if sink.restart else None

    def take(self, output: Any) -> TextSink | None:
        """Take an output; further ones are wanted with their tokens."""
        for each in output.outputs:
            if each.index == 0:
                self._kept.tokens += each.token_ids
                if self._structured and each.finish_reason is not None:
                    self._kept.cut = each.finish_reason == "length"
        self._sink.take(output)
        return None

    def _restart(self) -> None:
        assert self._sink.restart is not None
        self._kept.tokens.clear()
        self._sink.restart()


def lora_request(adapter: Adapter | None) -> LoRARequest | None:
    """An adapter as vLLM knows it; None for the base model.

    vLLM treats two requests with one adapter name as equal and hashes name and path into every
    cached block, so each version has its own name.
    """
    if adapter is None:
        return None
    return LoRARequest(
        lora_name=adapter.engine_name, lora_int_id=adapter.engine_id, lora_path=adapter.path
    )


def keeping(
    kept: object, prompt: Mapping[str, Any], params: SamplingParams
) -> KeptGeneration | None:
    """The place to keep a generation, None if it is not kept; of a request only the first is."""
    if not isinstance(kept, KeptGeneration):
        return None
    repeatable = params.temperature == 0 or params.seed is not None
    began = kept.ask(prompt["prompt_token_ids"], params, repeatable=repeatable)
    return kept if began else None
