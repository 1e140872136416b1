"""Two renderings of the same outputs: the answer of a route of ours, and that of vLLM's handler."""

import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from copy import deepcopy
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from starlette.responses import JSONResponse
from vllm.entrypoints.generate.base.protocol import RequestResponseMetadata
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.chat_completion.serving import OpenAIServingChat
from vllm.entrypoints.openai.completion.protocol import CompletionRequest
from vllm.entrypoints.openai.completion.serving import OpenAIServingCompletion
from vllm.outputs import CompletionOutput, RequestOutput

from service.context import current_context
from service.engine.contract import AnswerOptions, Job, ModelInfo, Sink, TextSink
from service.engine.texts import Reading
from service.openai.envelope import named_tier
from service.vllm.chats import VllmChats
from service.vllm.conversion import OutputReader
from tests.engine.asked_routes import Recorder, ask, timeless

Outputs = Sequence[RequestOutput]
PROMPT = [1, 2, 3]
MODEL = ModelInfo(
    "tiny", "sha256:0", 512, 8, max_token_chars=9, answers=AnswerOptions(fingerprint="print")
)


class Scripted:
    """Stands in for a `ServedModel`: its answers to its prompts are these outputs.

    Every second step holds a text alone, where the sink takes these. Stands in for vLLM's renderer,
    too.
    """

    chat_template = default_chat_template_kwargs = None
    chat_template_content_format = "auto"

    def __init__(
        self,
        answers: Sequence[Outputs],
        options: AnswerOptions,
        *,
        parser: Any = None,
        tokenizer: Any = None,
        prompt: Sequence[int] = PROMPT,
        reasoning: bool = False,
    ) -> None:
        self.model = replace(MODEL, answers=options)
        self._answers = list(answers)
        self._prompt = list(prompt)
        self._tokenizer = tokenizer
        self.chats = object.__new__(VllmChats)
        vars(self.chats).update(
            _llm=SimpleNamespace(model_config=None),
            _any=ChatCompletionRequest(messages=[{"role": "user", "content": "any"}]),
            _arguments=SimpleNamespace(
                enable_auto_tool_choice=parser is not None, response_role="assistant"
            ),
            _tokenizer=tokenizer,
            _with_tools=parser,
            _without_tools=parser,
            _renderer=self,
            _counts_reasoning=reasoning,
            _bounds_thoughts=False,
            _least_effort="none",
            reads_documents=False,
        )
        self._parser = parser

    async def render_chat(self, request: Any) -> Any:
        """As vLLM's renderer: the prompt, once the parser has changed the request."""
        if self._parser is not None:
            self._parser(self._tokenizer, request.tools).adjust_request(request=request)
        return [], [{"prompt_token_ids": self._prompt}]

    def refuse_early(self) -> None:
        """No request is refused."""

    async def render(self, prompt: Any, reading: Reading) -> list[int]:
        """Any text is the one prompt."""
        return self._prompt

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of tokens."""
        return str(self._tokenizer.decode(token_ids))

    async def run(self, job: Job, sink: Sink) -> None:
        """Hand the outputs of the next prompt to the sink, with what the job asks for."""
        reader, texts = OutputReader(job, Counter()), None
        for number, output in enumerate(self._answers.pop(0)):
            if job.sampling.logprobs is None:
                for each in output.outputs:
                    each.logprobs = None
            texts_alone = number % 2 and not (output.finished or output.prompt_logprobs)
            if texts is not None and texts_alone:
                (said,) = output.outputs
                texts.add(said.text, len(said.token_ids))
                texts.release()
            else:
                texts = self._taken(sink, reader, output)

    @staticmethod
    def _taken(sink: Sink, reader: OutputReader, output: RequestOutput) -> TextSink | None:
        return sink.take(reader.read(output))


def handler(kind: Any, **more: Any) -> Any:
    """A handler of vLLM's without an engine."""
    made = object.__new__(kind)
    common = {
        "parser_cls": None,
        "enable_auto_tools": False,
        "enable_force_include_usage": False,
        "enable_prompt_tokens_details": True,
        "enable_per_request_metrics": False,
        "enable_log_outputs": False,
        "request_logger": None,
        "response_role": "assistant",
        "system_fingerprint": "print",
        "return_tokens_as_token_ids": False,
        "model_config": None,
        "_effective_chat_template_kwargs": lambda request: request.chat_template_kwargs or {},
        "_include_reasoning_tokens_details": False,
    }
    vars(made).update(common | more)
    return made


class Both:
    """Answers a body twice, by our route and by vLLM's handler, in the current request."""

    def __init__(
        self,
        answers: Sequence[Outputs],
        *,
        options: AnswerOptions | None = None,
        parser: Any = None,
        tokenizer: Any = None,
        prompt: Sequence[int] = PROMPT,
        reasoning: bool = False,
        served: bool = True,
    ) -> None:
        self.options = options or MODEL.answers
        self._answers = answers
        self._prompt = list(prompt)
        self._parser = parser
        self._tokenizer = tokenizer
        self._more = {
            "parser_cls": parser,
            "enable_auto_tools": parser is not None,
            "enable_force_include_usage": self.options.usage_always,
            "enable_prompt_tokens_details": self.options.cached_tokens,
            "return_tokens_as_token_ids": self.options.tokens_as_ids,
            "system_fingerprint": self.options.fingerprint,
            "_include_reasoning_tokens_details": reasoning,
        }
        self._reasoning = reasoning

    async def ours(self, body: dict[str, Any], writer: Recorder | None = None) -> bytes:
        """The JSON of our answer, or its events."""
        model: Any = Scripted(
            self._copied(),
            self.options,
            parser=self._parser,
            tokenizer=self._tokenizer,
            prompt=self._prompt,
            reasoning=self._reasoning,
        )
        return unique(await ask(model, body, writer))

    async def theirs(self, body: dict[str, Any]) -> bytes:
        """The JSON of vLLM's answer with the tier that the service adds, or its events."""
        answer = self._chat if "messages" in body else self._completion
        return unique(await answer(body))

    async def _chat(self, body: dict[str, Any]) -> bytes:
        made = handler(OpenAIServingChat, **self._more)
        request = ChatCompletionRequest(**body)
        if self._parser is not None:
            request = self._parser(self._tokenizer, request.tools).adjust_request(request=request)
        tokenizer, metadata = self._tokenizer or object(), RequestResponseMetadata(request_id="it")
        rest: Any = _id("chatcmpl-"), current_context().model, [], tokenizer, metadata
        (steps,) = self._copied()
        if request.stream:
            events = made.chat_completion_stream_generator(request, _each(steps), *rest)
            return await _events(events)
        parser = None
        if self._parser is not None:
            parser = made._make_parser(request, self._tokenizer, request.chat_template_kwargs)
        answer = await made.chat_completion_full_generator(
            request, _each([whole(steps)]), *rest, parser=parser
        )
        return _json(answer)

    def _copied(self) -> list[Outputs]:
        return [deepcopy(each) for each in self._answers]

    async def _completion(self, body: dict[str, Any]) -> bytes:
        made = handler(OpenAIServingCompletion, **self._more)
        request, answers = CompletionRequest(**{"max_tokens": 16} | body), self._copied()
        context, metadata = current_context(), RequestResponseMetadata(request_id="it")
        rest = (context.model, self._tokenizer or object(), metadata)
        if request.stream:
            model, *others = rest
            outputs = [(place, each) for place, steps in enumerate(answers) for each in steps]
            return await _events(
                made.completion_stream_generator(
                    request, [], _each(outputs), _id("cmpl-"), 0, model, len(answers), *others
                )
            )
        finals = [whole(steps) for steps in answers]
        return _json(
            made.request_output_to_completion_response(finals, request, _id("cmpl-"), 0, *rest)
        )


def _id(prefix: str) -> str:
    return f"{prefix}{current_context().request_id}"


async def _each(items: Sequence[Any]) -> AsyncIterator[Any]:
    for item in items:
        yield item


async def _events(events: AsyncIterator[str]) -> bytes:
    tier, made = named_tier(current_context()), ""
    async for event in events:
        if tier is not None and event.startswith("data: {"):
            event = event.replace("data: {", f'data: {{"service_tier":"{tier}",', 1)
        made += event
    return made.encode()


def _json(answer: Any) -> bytes:
    tier = {"service_tier": named_tier(current_context())}
    return bytes(JSONResponse(answer.model_dump() | tier).body)


CALL_IDS = re.compile(rb"(?:chatcmpl-tool|call)[-_][0-9a-f]+")


def unique(answer: bytes) -> bytes:
    """An answer without the time of its creation, its calls numbered through."""
    known: dict[bytes, int] = {}
    return CALL_IDS.sub(
        lambda found: b"call-%d" % known.setdefault(found[0], len(known)), timeless(answer)
    )


def ordered(answer: bytes) -> list[Any]:
    """The JSON of an answer or of its events, each object a list of its pairs."""
    if not answer.startswith(b"data: "):
        return [json.loads(answer, object_pairs_hook=list)]
    events = answer.decode().removesuffix("\n\n").split("\n\n")
    assert events.pop() == "data: [DONE]"
    return [json.loads(each.removeprefix("data: "), object_pairs_hook=list) for each in events]


def whole(steps: Outputs) -> RequestOutput:
    """The output that holds all steps of an answer, as vLLM adds them up."""
    first, *rest = steps
    found = [each.prompt_logprobs for each in steps if each.prompt_logprobs]
    first.prompt_logprobs = found[0] if found else None
    for each in rest:
        first.add(each, aggregate=True)
    first.outputs.sort(key=lambda each: each.index)
    return first


def step(
    *said: CompletionOutput, prompt: Sequence[int] = PROMPT, finished: bool = False, **more: Any
) -> RequestOutput:
    """One step of an answer to the prompt `Hi`."""
    counts = {"num_cached_tokens": 2, "num_cache_creation_tokens": 1} | more
    logprobs = counts.pop("prompt_logprobs", None)
    return RequestOutput("it", "Hi", list(prompt), logprobs, list(said), finished, **counts)
