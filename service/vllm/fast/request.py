"""Requests whose state the service keeps itself: generations and label reads."""

import asyncio
from collections import Counter
from typing import Any

from vllm.v1.engine import EngineCoreOutput, EngineCoreRequest, FinishReason
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.detokenizer import IncrementalDetokenizer
from vllm.v1.engine.exceptions import EngineDeadError
from vllm.v1.engine.output_processor import OutputProcessor
from vllm.v1.metrics.stats import RequestStateStats
from vllm.v1.outputs import LogprobsLists

from service.engine.contract import LabelLogprobs, Output, Part, Sink, TextSink
from service.errors import EngineDead
from service.vllm.conversion import OutputReader, engine_wait, mask_seconds
from service.vllm.fast.dispatcher import Dispatched, OutputDispatcher, Step, only_tokens
from service.vllm.fast.token_texts import TextStream

USES = (
    "reads vllm.sampling_params:SamplingParams._watermarking_skipped",
    "reads vllm.sampling_params:SamplingParams.logprob_token_ids",
    "reads vllm.sampling_params:SamplingParams.skip_clone",
    "reads vllm.v1.engine.core_client:AsyncMPClient.add_request_async",
    "reads vllm.v1.engine.detokenizer:BaseIncrementalDetokenizer.get_next_output_text",
    "reads vllm.v1.engine.detokenizer:BaseIncrementalDetokenizer.num_output_tokens",
    "reads vllm.v1.engine.detokenizer:BaseIncrementalDetokenizer.update",
    "reads vllm.v1.engine.detokenizer:FastIncrementalDetokenizer.spaces_between_special_tokens",
    "reads vllm.v1.engine.detokenizer:FastIncrementalDetokenizer.stream",
    "reads vllm.v1.engine.detokenizer:IncrementalDetokenizer.from_new_request",
    "reads vllm.v1.engine.output_processor:OutputProcessor._update_stats_from_finished",
    "reads vllm.v1.engine.output_processor:OutputProcessor._update_stats_from_output",
    "reads vllm.v1.engine.output_processor:OutputProcessor.do_tracing",
    "reads vllm.v1.engine.output_processor:OutputProcessor.tracing_enabled",
    "reads vllm.v1.metrics.stats:LoRARequestStates.request_finished",
    "fields of vllm.v1.metrics.stats:RequestStateStats",
    "fields of vllm.v1.outputs:LogprobsLists",
)


class RequestState:
    """The attributes of a request that vLLM's statistics and traces read.

    vLLM's own state also has a queue, processors of log-probabilities and much more that no request
    of this service needs.
    """

    parent_req = prompt_embeds = None

    def __init__(self, processor: OutputProcessor, message: EngineCoreRequest) -> None:
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
        self._processor = processor

    def count(self, output: EngineCoreOutput, step: Step) -> None:
        """Count an output in its step, and the request if this is its last."""
        self._processor._update_stats_from_output(self, output, step.timestamp, step.stats)
        if self.is_prefilling and (prefill := output.prefill_stats) is not None:
            self.num_cached_tokens = prefill.num_cached_tokens
            self.num_cache_creation_tokens = prefill.num_cache_creation_tokens
        self.is_prefilling = False
        if output.finish_reason is not None:
            self._processor._update_stats_from_finished(self, output.finish_reason, step.stats)
            if self._processor.tracing_enabled:
                self._processor.do_tracing(output, self, step.stats)

    def drop(self) -> None:
        """Uncount an aborted request among those of its adapter."""
        self._processor.lora_states.request_finished(self.request_id, self.lora_name)


class OwnRequest(Dispatched):
    """A request with a state of the service's own."""

    def __init__(
        self, llm: AsyncLLM, dispatcher: OutputDispatcher, message: EngineCoreRequest
    ) -> None:
        self.request_id = message.request_id
        self.state = RequestState(llm.output_processor, message)
        self.ended: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._llm = llm
        self._message = message
        self._dispatcher = dispatcher

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
            self._dispatcher.forget(self.request_id)
            self.state.drop()
            await self._llm.engine_core.abort_requests_async([self.request_id])
            raise

    def release(self) -> None:
        """Do nothing: no text is buffered."""

    def fail(self, error: Exception) -> None:
        self._dispatcher.forget(self.request_id)
        if not self.ended.done():
            self.ended.set_exception(error)


class FastRequest(OwnRequest):
    """One run of a job.

    The sink gets an `Output` for the first and the last step. Steps between them go to the
    `TextSink` that it returned; without one it gets an `Output` for each.
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

    def take(self, output: EngineCoreOutput, step: Step) -> bool:
        texts = self._texts
        if texts is None or not only_tokens(output):
            self._read(output, step)
        elif (text := self._text(output, step)) is not None:
            tokens = len(output.new_token_ids)
            step.tally(self.state.stats, tokens)
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
        text = detokenizer.get_next_output_text(False, True)
        return text

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
        self.state.count(output, step)
        texts = self._sink.take(self._made(output, text))
        if ended:
            self._dispatcher.forget(self.request_id)
            self.ended.set_result(None)
        else:
            self._texts = texts

    def _made(self, output: EngineCoreOutput, text: str) -> Output:
        """The output in the service's own form; raises as `OutputReader.checked`."""
        state, reader = self.state, self._reader
        reason = None if output.finish_reason is None else str(output.finish_reason)
        reason = reader.checked(reason, output.stop_reason)
        reader.count()
        return Output(
            [Part(0, text, output.new_token_ids, reason, output.stop_reason)],
            state.prompt_len,
            state.num_cached_tokens,
            state.num_cache_creation_tokens,
            engine_wait(state.stats),
            mask_seconds(output.kv_transfer_params),
        )


def _adds_up(detokenizer: Any) -> bool:
    """True if a detokenizer only concatenates the texts of tokens, as a `TextStream` gives them."""
    stream = getattr(detokenizer, "stream", None)
    simple = isinstance(stream, TextStream) and detokenizer.spaces_between_special_tokens
    return simple and not detokenizer.stop


class LabelRequest(OwnRequest):
    """One label read, which takes one step of the engine.

    vLLM's client gives each request a state, a detokenizer, a queue and an output object. A label
    read has a single output, so that it needs none of these.
    """

    def __init__(
        self,
        llm: AsyncLLM,
        dispatcher: OutputDispatcher,
        message: EngineCoreRequest,
        adapter_requests: Counter[int],
    ) -> None:
        super().__init__(llm, dispatcher, message)
        self._adapter_requests = adapter_requests

    def take(self, output: EngineCoreOutput, step: Step) -> bool:
        """Take the read's only output, which ends it."""
        self._dispatcher.forget(self.request_id)
        state = self.state
        state.count(output, step)
        if output.new_logprobs is None:
            raise EngineDead.midway()
        if (lora := self._message.lora_request) is not None:
            self._adapter_requests[lora.lora_int_id] += 1
        if not self.ended.done():
            self.ended.set_result(self._read(output.new_logprobs))
        return False

    def _read(self, found: LogprobsLists) -> LabelLogprobs:
        """The log-probabilities in the order in which they were asked for."""
        token_ids, logprobs, *_ = found
        read: dict[int, Any] = dict(zip(token_ids[0].tolist(), logprobs[0].tolist(), strict=True))
        return LabelLogprobs(
            logprobs=[read[each] for each in self._message.sampling_params.logprob_token_ids],
            prompt_tokens=self.state.prompt_len,
            cached_tokens=self.state.num_cached_tokens,
            engine_wait=engine_wait(self.state.stats),
        )
