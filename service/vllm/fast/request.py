"""Requests whose state the service keeps, and the dispatch of their outputs."""

import asyncio
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

from vllm.v1.engine import EngineCoreOutput, EngineCoreRequest, FinishReason
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.detokenizer import IncrementalDetokenizer
from vllm.v1.engine.exceptions import EngineDeadError
from vllm.v1.engine.output_processor import OutputProcessor, OutputProcessorOutput
from vllm.v1.metrics.stats import IterationStats, RequestStateStats
from vllm.v1.outputs import LogprobsLists

from service.engine.contract import LabelLogprobs, Output, Part, Sink, TextSink
from service.errors import EngineDead
from service.vllm.conversion import OutputReader, engine_wait, mask_seconds
from service.vllm.fast.token_texts import TextStream

USES = (
    "reads vllm.sampling_params:SamplingParams._watermarking_skipped, logprob_token_ids, "
    "skip_clone",
    "reads vllm.v1.engine.core_client:AsyncMPClient.abort_requests_async, add_request_async",
    "reads vllm.v1.engine.detokenizer:BaseIncrementalDetokenizer.get_next_output_text, "
    "num_output_tokens, update",
    "reads vllm.v1.engine.detokenizer:FastIncrementalDetokenizer.spaces_between_special_tokens, "
    "stream",
    "reads vllm.v1.engine.detokenizer:IncrementalDetokenizer.from_new_request",
    "reads vllm.v1.engine.output_processor:OutputProcessor._update_stats_from_finished, "
    "_update_stats_from_output, do_tracing, tracing_enabled",
    "replaces vllm.v1.engine.output_processor:OutputProcessor.process_outputs, propagate_error",
    "reads vllm.v1.metrics.stats:LoRARequestStates.request_finished",
    "fields of vllm.v1.engine:EngineCoreOutput",
    "reads vllm.v1.engine:FinishReason.LENGTH, STOP",
    "fields of vllm.v1.metrics.stats:IterationStats, RequestStateStats",
    "reads vllm.v1.metrics.stats:IterationStats.update_from_output",
    "fields of vllm.v1.outputs:LogprobsLists",
)

_LATE_SECONDS = 0.05
"""Age of a step at its dispatch from which the event loop counts as lagging."""
_GATHER_SECONDS = 0.02
"""Time for which texts are held to be merged with the next steps' while the loop lags."""
_NOTHING = OutputProcessorOutput(request_outputs=[], reqs_to_abort=[])


@dataclass(slots=True)
class Step:
    """A step whose outputs are being dispatched, with its engine time and vLLM's statistics.

    `stopped` are requests that ended at a stop string, which the engine must be told to abort.
    """

    timestamp: float
    stats: IterationStats
    stopped: list[str] = field(default_factory=list)

    def tally(self, request: RequestStateStats, tokens: int) -> None:
        """Add an output with only tokens, which is not a request's first, to vLLM's statistics."""
        self.stats.num_generation_tokens += tokens
        self.stats.inter_token_latencies_iter.append(self.timestamp - request.last_token_ts)
        request.num_generation_tokens += tokens
        request.last_token_ts = self.timestamp


def only_tokens(output: EngineCoreOutput) -> bool:
    """True for an output with only tokens that is not the request's last one."""
    return (
        output.finish_reason is None
        and output.events is None
        and output.kv_transfer_params is None
        and output.prefill_stats is None
        and output.new_logprobs is None
        and output.new_prompt_logprobs_tensors is None
        and output.new_sampling_mask is None
        and output.routed_experts is None
        and not output.num_nans_in_logits
    )


class OwnRequest(ABC):
    """A request whose state the service keeps, with the attributes that vLLM's statistics read."""

    parent_req = prompt_embeds = None

    def __init__(
        self, llm: AsyncLLM, dispatcher: "OutputDispatcher", message: EngineCoreRequest
    ) -> None:
        params = message.sampling_params
        self.request_id = message.request_id
        self.external_req_id = message.external_req_id
        self.prompt_token_ids = message.prompt_token_ids
        self.prompt_len = len(message.prompt_token_ids)
        self.lora_name = message.lora_request and message.lora_request.lora_name
        self.n, self.max_tokens_param = params.n, params.max_tokens
        self.top_p, self.temperature = params.top_p, params.temperature
        self.stats = RequestStateStats(arrival_time=message.arrival_time)
        if hasattr(params, "_watermarking_skipped"):  # older statistics do not count it
            self.stats.is_watermarked = bool(params.watermarking)
            self.stats.is_watermark_skipped = params._watermarking_skipped
        self.is_prefilling = True
        self.num_cached_tokens = self.num_cache_creation_tokens = 0
        self.ended: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._llm = llm
        self._message = message
        self._dispatcher = dispatcher

    def count(self, output: EngineCoreOutput, step: Step) -> None:
        """Add an output to its step's statistics, and the request if this is its last output."""
        processor: OutputProcessor = self._llm.output_processor
        processor._update_stats_from_output(self, output, step.timestamp, step.stats)
        if self.is_prefilling and (prefill := output.prefill_stats) is not None:
            self.num_cached_tokens = prefill.num_cached_tokens
            self.num_cache_creation_tokens = prefill.num_cache_creation_tokens
        self.is_prefilling = False
        if output.finish_reason is not None:
            processor._update_stats_from_finished(self, output.finish_reason, step.stats)
            if processor.tracing_enabled:
                processor.do_tracing(output, self, step.stats)

    def drop(self) -> None:
        """Dispatch no more outputs; an aborted request no longer counts for its adapter."""
        self._dispatcher.forget(self.request_id)
        self._llm.output_processor.lora_states.request_finished(self.request_id, self.lora_name)

    async def run(self) -> None:
        """Send the request, and wait for its end.

        It is aborted if the wait fails or is cancelled. Raises EngineDeadError if the engine has
        ended.
        """
        if self._llm.errored:
            raise EngineDeadError()
        self._dispatcher.hand_to(self)
        try:
            await self._llm.engine_core.add_request_async(self._message)
            await self.ended
        except BaseException:
            self.drop()
            await self._llm.engine_core.abort_requests_async([self.request_id])
            raise

    @abstractmethod
    def take(self, output: EngineCoreOutput, step: Step) -> bool:
        """Take an output; true if text of it is buffered until `release`."""

    def release(self) -> None:  # noqa: B027
        """Send the buffered text, if there is some."""

    def fail(self, error: Exception) -> None:
        """End with an error."""
        self._dispatcher.forget(self.request_id)
        if not self.ended.done():
            self.ended.set_exception(error)


class OutputDispatcher:
    """Dispatches outputs of the service's own requests before vLLM's output processor sees them.

    All texts of a step are written directly after each other, because a local client that goes to
    sleep between two writes costs more time than both writes. While the event loop lags, the texts
    of several steps are merged into one event.
    """

    def __init__(self, processor: OutputProcessor) -> None:
        self._process = processor.process_outputs
        self._tell_of_failure = processor.propagate_error
        self._own: dict[str, OwnRequest] = {}
        self._unreleased: dict[str, OwnRequest] = {}
        self._timer: asyncio.TimerHandle | None = None
        processor.process_outputs = self._take
        processor.propagate_error = self._fail

    def hand_to(self, request: OwnRequest) -> None:
        """Dispatch outputs with this request's id to it, until `forget`."""
        self._own[request.request_id] = request

    def forget(self, request_id: str) -> None:
        """Dispatch no more outputs to this request."""
        self._own.pop(request_id, None)
        self._unreleased.pop(request_id, None)

    def _take(
        self,
        outputs: list[EngineCoreOutput],
        timestamp: float,
        stats: IterationStats,
    ) -> OutputProcessorOutput:
        if not self._own:
            return self._process(outputs, timestamp, stats)
        step = Step(timestamp, stats)
        rest: list[EngineCoreOutput] = []
        for output in outputs:
            if (request := self._own.get(output.request_id)) is None:
                rest.append(output)
                continue
            try:
                if request.take(output, step):
                    self._unreleased[output.request_id] = request
            except Exception as error:
                request.fail(error)
        processed = self._process(rest, timestamp, stats) if rest else _NOTHING
        if step.stopped:
            stopped = [*processed.reqs_to_abort, *step.stopped]
            processed = OutputProcessorOutput(request_outputs=[], reqs_to_abort=stopped)
        if time.monotonic() - timestamp < _LATE_SECONDS:
            self._release()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_GATHER_SECONDS, self._release)
        return processed

    def _release(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        unreleased, self._unreleased = self._unreleased, {}
        for request in unreleased.values():
            try:
                request.release()
            except Exception as error:
                request.fail(error)

    def _fail(self, error: Exception) -> None:
        for request in list(self._own.values()):
            request.fail(error)
        self._tell_of_failure(error)


class FastRequest(OwnRequest):
    """One run of a job.

    The sink gets an `Output` for the first and the last step. Steps between them go to the
    `TextSink` that the sink returned; if it returned none, it gets an `Output` for each step.
    """

    def __init__(
        self,
        llm: AsyncLLM,
        dispatcher: OutputDispatcher,
        message: EngineCoreRequest,
        sink: Sink,
        reader: OutputReader,
    ) -> None:
        super().__init__(llm, dispatcher, message)
        tokenizer = llm.output_processor.tokenizer if message.sampling_params.detokenize else None
        self._detokenizer = IncrementalDetokenizer.from_new_request(tokenizer, message)
        self._adds_up = _adds_up(self._detokenizer)
        self._reader = reader
        self._sink = sink
        self._texts: TextSink | None = None

    def end(self) -> None:
        """End the answer at once, as if it had reached `max_tokens`."""
        if self.ended.done():
            return
        last = EngineCoreOutput(self.request_id, [], finish_reason=FinishReason.LENGTH)
        self._llm.output_processor.process_outputs([last], time.monotonic(), IterationStats())
        abort = self._llm.engine_core.abort_requests_async([self.request_id])
        self._aborting = asyncio.get_running_loop().create_task(abort)

    def take(self, output: EngineCoreOutput, step: Step) -> bool:
        texts = self._texts
        if texts is None or not only_tokens(output):
            self._read(output, step)
        elif (text := self._text(output, step)) is not None:
            tokens = len(output.new_token_ids)
            step.tally(self.stats, tokens)
            texts.add(text, tokens)
            return True
        self._take_edge(output, step)
        return False

    def release(self) -> None:
        assert self._texts is not None
        self._texts.release()

    def _text(self, output: EngineCoreOutput, step: Step) -> str | None:
        """The text that an output of tokens alone adds; None if a stop string ends the answer.

        Plain texts bypass vLLM's detokenizer, which appends each one to the whole answer, a copy,
        and slices it off again. It does not miss them: it returns what comes after its offset.
        """
        detokenizer, token_ids = self._detokenizer, output.new_token_ids
        if self._adds_up:
            detokenizer.token_ids += token_ids
            text: str = detokenizer.stream.text(detokenizer.tokenizer, token_ids)
            return text
        self._read(output, step)
        if output.finish_reason is not None:
            return None
        return str(detokenizer.get_next_output_text(False, True))

    def _read(self, output: EngineCoreOutput, step: Step) -> None:
        """Add an output's tokens to the text; a stop string in the text makes this output the last.

        Tokens after the stop string are dropped from the output.
        """
        detokenizer, reason = self._detokenizer, output.finish_reason
        before = detokenizer.num_output_tokens()
        stop = detokenizer.update(output.new_token_ids, reason == FinishReason.STOP)
        if not stop:
            return
        del output.new_token_ids[detokenizer.num_output_tokens() - before :]
        output.finish_reason, output.stop_reason = FinishReason.STOP, stop
        if reason is None:
            step.stopped.append(self.request_id)

    def _take_edge(self, output: EngineCoreOutput, step: Step) -> None:
        """Take a first or last output, one with an event, or any if the sink wants no texts."""
        if self.ended.done():  # cancelled; its task has yet to run
            return
        ended = output.finish_reason is not None
        text = self._detokenizer.get_next_output_text(ended, True)
        self.count(output, step)
        self._texts = self._sink.take(self._made(output, text))
        if ended:
            self._dispatcher.forget(self.request_id)
            self.ended.set_result(None)

    def _made(self, output: EngineCoreOutput, text: str) -> Output:
        """The output in the service's own form; raises as `OutputReader.checked`."""
        reader = self._reader
        reason = None if output.finish_reason is None else str(output.finish_reason)
        reason = reader.checked(reason, output.stop_reason)
        reader.count()
        return Output(
            [Part(0, text, output.new_token_ids, reason, output.stop_reason)],
            self.prompt_len,
            self.num_cached_tokens,
            self.num_cache_creation_tokens,
            engine_wait(self.stats),
            mask_seconds(output.kv_transfer_params),
        )


def _adds_up(detokenizer: Any) -> bool:
    """True if a detokenizer only concatenates the texts of tokens, as a `TextStream` gives them."""
    stream = getattr(detokenizer, "stream", None)
    simple = isinstance(stream, TextStream) and detokenizer.spaces_between_special_tokens
    return simple and not detokenizer.stop


class LabelRequest(OwnRequest):
    """One label read, which takes one step of the engine."""

    def take(self, output: EngineCoreOutput, step: Step) -> bool:
        """Take the read's only output, which ends it."""
        self._dispatcher.forget(self.request_id)
        self.count(output, step)
        if output.new_logprobs is None:
            raise EngineDead.midway()
        if not self.ended.done():
            # At temperature 0 the engine samples the likeliest token.
            (likeliest,) = output.new_token_ids
            self.ended.set_result(self._read(output.new_logprobs, likeliest))
        return False

    def _read(self, found: LogprobsLists, likeliest: int) -> LabelLogprobs:
        """The log-probabilities in the order in which they were asked for."""
        token_ids, logprobs, *_ = found
        read: dict[int, Any] = dict(zip(token_ids[0].tolist(), logprobs[0].tolist(), strict=True))
        return LabelLogprobs(
            logprobs=[read[each] for each in self._message.sampling_params.logprob_token_ids],
            likeliest=likeliest,
            prompt_tokens=self.prompt_len,
            cached_tokens=self.num_cached_tokens,
            engine_wait=engine_wait(self.stats),
        )
