"""A generation whose state the service keeps, handed on in the engine's own steps."""

import asyncio
from typing import Any

from vllm.v1.engine import EngineCoreOutput, EngineCoreRequest, FinishReason
from vllm.v1.engine.detokenizer import IncrementalDetokenizer
from vllm.v1.engine.output_processor import OutputProcessor

from service.engine.contract import Output, Part, Sink, TextSink
from service.vllm.fast.dispatcher import OutputDispatcher
from service.vllm.fast.request_state import RequestState
from service.vllm.fast.step import Step, only_tokens
from service.vllm.fast.token_texts import TextStream
from service.vllm.outputs import OutputReader, engine_wait, mask_seconds

USES = (
    "reads vllm.v1.engine.detokenizer:BaseIncrementalDetokenizer.get_next_output_text",
    "reads vllm.v1.engine.detokenizer:BaseIncrementalDetokenizer.num_output_tokens",
    "reads vllm.v1.engine.detokenizer:BaseIncrementalDetokenizer.update",
    "reads vllm.v1.engine.detokenizer:FastIncrementalDetokenizer.spaces_between_special_tokens",
    "reads vllm.v1.engine.detokenizer:FastIncrementalDetokenizer.stream",
    "reads vllm.v1.engine.detokenizer:IncrementalDetokenizer.from_new_request",
)
"""What of vLLM this module stands on (docs/vllm.md)."""


class FastRequest:
    """One run of a job with a state of the service's own; has the role `dispatcher.Dispatched`.

    The sink gets an object for the first output and for the last, and the texts of those between
    them through its `TextSink`; without one it gets an object for each.
    """

    def __init__(
        self,
        processor: OutputProcessor,
        message: EngineCoreRequest,
        sink: Sink,
        reader: OutputReader,
        dispatcher: OutputDispatcher,
    ) -> None:
        self.request_id = message.request_id
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.state = RequestState(processor, message)
        tokenizer = processor.tokenizer if message.sampling_params.detokenize else None
        self._detokenizer = IncrementalDetokenizer.from_new_request(tokenizer, message)
        self._adds_up = _adds_up(self._detokenizer)
        self._reader = reader
        self._sink = sink
        self._dispatcher = dispatcher
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
    """True if a detokenizer adds up the texts of tokens, which its stream gives, and no more."""
    stream = getattr(detokenizer, "stream", None)
    simple = isinstance(stream, TextStream) and detokenizer.spaces_between_special_tokens
    return simple and not detokenizer.stop
