"""A generation whose state the service keeps, handed on in the engine's own steps."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from vllm.outputs import CompletionOutput, RequestOutput
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine import EngineCoreOutput, EngineCoreRequest, FinishReason
from vllm.v1.engine.detokenizer import IncrementalDetokenizer
from vllm.v1.engine.output_processor import OutputProcessor

from service.engine.contract import Job, Meter, Sink
from service.engine.protocol import TextSink
from service.vllm.fast.dispatcher import OutputDispatcher, count_part
from service.vllm.fast.request_state import RequestState
from service.vllm.fast.step import Step, only_tokens
from service.vllm.fast.token_texts import TextStream
from service.vllm.progress import OutputReader

USES = (
    "fields of vllm.outputs:CompletionOutput",
    "fields of vllm.outputs:RequestOutput.__init__",
    "reads vllm.v1.engine.detokenizer:BaseIncrementalDetokenizer.get_next_output_text",
    "reads vllm.v1.engine.detokenizer:BaseIncrementalDetokenizer.num_output_tokens",
    "reads vllm.v1.engine.detokenizer:BaseIncrementalDetokenizer.update",
    "reads vllm.v1.engine.detokenizer:FastIncrementalDetokenizer.spaces_between_special_tokens",
    "reads vllm.v1.engine.detokenizer:FastIncrementalDetokenizer.stream",
    "reads vllm.v1.engine.detokenizer:IncrementalDetokenizer.from_new_request",
    "mirrors vllm.v1.engine.output_processor:RequestState.make_request_output",
)
"""What of vLLM this module stands on (docs/vllm.md)."""


class _Parts:
    """Texts of an answer that comes whole; has the role `TextSink`."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def add(self, text: str, tokens: int) -> None:
        self.texts.append(text)

    def release(self) -> None:
        pass


class FastRequest:
    """One run of a job with a state of the service's own; has the role `dispatcher.Dispatched`.

    The sink gets the object that vLLM would make of the first output and of the last, and the texts
    of the outputs between them through its `TextSink`; without one it gets an object of each.
    """

    def __init__(
        self,
        processor: OutputProcessor,
        job: Job,
        message: EngineCoreRequest,
        sink: Sink[Any],
        meter: Meter,
        reader: OutputReader,
        dispatcher: OutputDispatcher,
    ) -> None:
        self.request_id = message.request_id
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.state = RequestState(processor, message)
        tokenizer = processor.tokenizer if message.sampling_params.detokenize else None
        self._detokenizer = IncrementalDetokenizer.from_new_request(tokenizer, message)
        self._adds_up = _adds_up(self._detokenizer)
        self._prompt = job.prompt.get("prompt")
        self._reader = reader
        self._lora = message.lora_request
        self._sink = sink
        self._meter = meter
        self._dispatcher = dispatcher
        self._texts: TextSink | None = None
        whole = message.sampling_params.output_kind is RequestOutputKind.FINAL_ONLY
        self._parts = _Parts() if whole else None

    def take(self, output: EngineCoreOutput, step: Step) -> bool:
        texts = self._texts
        if texts is None or not only_tokens(output):
            self._read(output, step)
        elif (text := self._text(output, step)) is not None:
            tokens = len(output.new_token_ids)
            step.tally(self.state.stats, tokens)
            step.count(self._meter, tokens)
            texts.add(text, tokens)
            return True
        self._take_edge(output, step)
        return False

    def release(self) -> None:
        assert self._texts is not None
        self._texts.release()

    def fail(self, error: Exception) -> None:
        self._dispatcher.forget(self.request_id)
        if not self.ended.done():
            self.ended.set_exception(error)

    def _text(self, output: EngineCoreOutput, step: Step) -> str | None:
        """The text that an output of tokens alone adds; None if a stop string ends the answer.

        vLLM's detokenizer puts each token's text at the end of the whole answer's, which it copies,
        and cuts it off again. It finds nothing missing: it hands on what came after its offset.
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
        ended, tokens = output.finish_reason is not None, len(output.new_token_ids)
        text = self._detokenizer.get_next_output_text(ended, True)
        self.state.count(output, step)
        if self._parts is not None:
            self._parts.add(text, tokens)
            if not ended:
                count_part(step, self.state, self._meter, tokens)
                self._texts = self._parts
                return
            text = "".join(self._parts.texts)
        made = self._made(output, text)
        progress = self._reader.read(made)
        if self._parts is not None:
            progress = replace(progress, new_tokens=tokens)  # the others are counted
        self._meter.add(progress)
        texts = self._sink.take(made)
        if ended:
            self._dispatcher.forget(self.request_id)
            self.ended.set_result(None)
        else:
            self._texts = texts

    def _made(self, output: EngineCoreOutput, text: str) -> RequestOutput:
        """The object that vLLM makes of an output."""
        state, reason = self.state, output.finish_reason
        token_ids: Sequence[int] = output.new_token_ids
        if self._parts is not None:
            token_ids = self._detokenizer.output_token_ids
        said = CompletionOutput(
            index=0,
            text=text,
            token_ids=token_ids,
            cumulative_logprob=None,
            logprobs=None,
            finish_reason=None if reason is None else str(reason),
            stop_reason=output.stop_reason,
            spec_decode_metrics=output.spec_decode_metrics,
        )
        return RequestOutput(
            request_id=state.external_req_id,
            prompt=self._prompt,
            prompt_token_ids=state.prompt_token_ids,
            prompt_logprobs=None,
            outputs=[said],
            finished=reason is not None,
            metrics=state.stats,
            lora_request=self._lora,
            num_cached_tokens=state.num_cached_tokens,
            num_cache_creation_tokens=state.num_cache_creation_tokens,
            kv_transfer_params=output.kv_transfer_params,
            ec_transfer_params=output.ec_transfer_params,
        )


def _adds_up(detokenizer: Any) -> bool:
    """True if a detokenizer adds up the texts of tokens, which its stream gives, and no more."""
    stream = getattr(detokenizer, "stream", None)
    simple = isinstance(stream, TextStream) and detokenizer.spaces_between_special_tokens
    return simple and not detokenizer.stop
