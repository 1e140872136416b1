"""A chat that is being answered: its prompt, and its answers, streamed or whole.

OpenAI's chats, Responses and Anthropic's Messages are all conversations; each API renders in its
own form what a conversation reports to its listener.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from service.context import current_context
from service.engine.contract import Adapter, Job, Output, Part, Sampling
from service.engine.texts import AnswerParser, Chat, PreparedChat, Said, Writer
from service.errors import UnsupportedFeature
from service.generation.fold import Fold, StreamSink
from service.generation.schema_check import SchemaCheck
from service.generation.served_model import ServedModel

_NAMED = "function:"


@dataclass(slots=True)
class Usage:
    """Tokens of a conversation so far.

    `cached_tokens` of the prompt came from the cache. `reasoning_tokens` is None if the model's
    reasoning is not counted.
    """

    prompt_tokens: int = 0
    cached_tokens: int = 0
    created_tokens: int | None = None
    completion_tokens: int = 0
    reasoning_tokens: int | None = None


@dataclass(slots=True)
class ChatStep:
    """More of one answer.

    `delta` has the form of a chat completion chunk's delta: `content`, `reasoning` and
    `tool_calls`, each only if there is some. Items of `tool_calls` have `index` and whatever is new
    of `id`, `type`, `function.name` and `function.arguments`. `delta` is None in a step that adds
    no text but ends the answer or reports tokens. `finish_reason` is `stop`, `length` or
    `tool_calls` in the answer's last step. If the conversation `tells_usage`, `tokens` counts the
    answer's tokens so far, and `reasoning_tokens` those of them that are reasoning.
    """

    index: int
    delta: Mapping[str, Any] | None
    part: Part
    finish_reason: str | None = None
    tokens: int = 0
    reasoning_tokens: int | None = None


class ChatListener(Protocol):
    """Receives the steps of a streamed conversation; an error that it raises ends the stream."""

    def begin(self, usage: Usage) -> None:
        """The first answer begins; `usage` has the prompt's tokens, later also the answers'."""

    def take(self, step: ChatStep) -> None:
        """Take the next part of an answer."""

    def end(self) -> None:
        """All answers have ended."""


@dataclass(slots=True)
class Choice:
    """A whole answer: what it says, and all of its tokens as one part."""

    index: int
    said: Said
    part: Part
    finish_reason: str


class Conversation:
    """A chat whose prompt is rendered; `whole` and `stream` wait for admission.

    With `details` answers come with their tokens and log-probabilities.
    """

    def __init__(
        self, model: ServedModel, chat: Chat, prepared: PreparedChat, adapter: Adapter | None
    ) -> None:
        self._model = model
        self.chat = chat
        self.prepared = prepared
        self._adapter = adapter
        self.details = False
        self.tells_tokens = False
        """True if every step is reported, even one without text, because its tokens are
        reported."""
        self.tells_usage = False
        """True if each step reports the usage of its answer so far."""
        self.prompt_logprobs: Any = None
        """Log-probabilities of the prompt's tokens, once there are any and they were asked for."""

    @classmethod
    async def prepare(
        cls, model: ServedModel, chat: Chat, sampling: Sampling, adapter: Adapter | None
    ) -> "Conversation":
        """Render a chat, unless it is refused admission; InvalidRequest where it does not fit.

        Tools are left out where no call could be found, and named among the ignored fields.
        """
        model.refuse_early()
        if chat.documents and not model.chats.reads_documents:
            raise UnsupportedFeature(
                "documents: this model's chat template reads none; write them into a message",
                param="documents",
            )
        chat = _offered(model, chat)
        return cls(model, chat, await model.chats.prepare(chat, sampling), adapter)

    @property
    def prompt_tokens(self) -> int:
        """The number of the prompt's tokens."""
        return len(self.prepared.prompt)

    @property
    def job(self) -> Job:
        """The generation that is asked of the engine."""
        prepared = self.prepared
        return Job(prepared.prompt, prepared.sampling, prepared.options, adapter=self._adapter)

    @property
    def hides_tokens(self) -> bool:
        """True if tokens must not be reported, because they include reasoning that is hidden."""
        return not self.chat.include_reasoning and self.prepared.parser is not None

    async def whole(self) -> tuple[list[Choice], Usage]:
        """The whole answers, in their order."""
        detailed = self.details or self.prepared.parser is not None
        fold = Fold(self.prepared.sampling.n, details=detailed)
        job = self.job
        await self._model.run(job, fold)
        self.prompt_logprobs = fold.prompt_logprobs
        usage = Usage(self.prompt_tokens, completion_tokens=fold.tokens)
        if fold.first is not None:
            usage.cached_tokens = fold.first.cached_tokens
            usage.created_tokens = fold.first.created_tokens
        if self.prepared.counts_reasoning:
            usage.reasoning_tokens = 0
        choices = [self._choice(part, usage) for part in fold.whole()]
        if (structure := job.sampling.structure) is not None and structure.is_checked:
            check = SchemaCheck(structure.json_schema)
            for choice in choices:
                if choice.finish_reason == "stop" and not choice.said.calls:
                    refusal = check.refuse(choice.said.content or "")
                    choice.said = replace(choice.said, refusal=refusal)
        return choices, usage

    def _choice(self, part: Part, usage: Usage) -> Choice:
        reason = part.finish_reason or "stop"
        make = self.prepared.parser
        if make is None:
            return Choice(part.index, Said(part.text), part, reason)
        parser = make()
        said = parser.whole(part.text, part.token_ids)
        if usage.reasoning_tokens is not None:
            usage.reasoning_tokens += parser.reasoning_tokens(part.token_ids)
        chosen = self.chat.tool_choice if self.chat.tools else "none"
        if (chosen == "auto" and said.calls) or (chosen == "required" and reason == "stop"):
            reason = "tool_calls"
        return Choice(part.index, said, self.shown(part), reason)

    def shown(self, part: Part) -> Part:
        """The part, without its token ids if they must not be reported."""
        return replace(part, token_ids=[], logprobs=None) if self.hides_tokens else part

    async def stream(self, listener: ChatListener, writer: Writer) -> None:
        """Stream the answers to a listener, and wait until its client has received them.

        Texts that arrive while the writer is busy are merged into one step.
        """
        job = self.job
        steps = _Steps(self, job, listener, writer)
        await self._model.run(job, steps)
        await writer.flush()  # buffered texts go before the end
        steps.close()
        await writer.flush()


class _Answer:
    """One answer under way."""

    def __init__(self, parser: AnswerParser | None, *, counts: bool) -> None:
        self.parser = parser
        self.called = False
        self.tokens = 0
        self.check: SchemaCheck | None = None
        self._content = ""
        self._token_ids: list[int] = []
        self._counts = counts and parser is not None

    def read(self, part: Part) -> Mapping[str, Any] | None:
        """Parse a part into content, reasoning and tool calls."""
        self.tokens += len(part.token_ids)
        if self._counts:
            self._token_ids += part.token_ids
        if self.parser is None:
            return {"content": part.text}
        last = part.finish_reason is not None
        said = self.parser.delta(part.text, part.token_ids, last=last)
        if said is not None and said.get("tool_calls"):
            self.called = True
        return said

    def read_checked(self, part: Part) -> Mapping[str, Any] | None:
        """Parse a part, and add a refusal if the answer has ended and breaks its schema."""
        said = self.read(part)
        if self.check is None:
            return said
        self._content += (said or {}).get("content") or ""
        if part.finish_reason != "stop" or self.called:
            return said
        refusal = self.check.refuse(self._content)
        return said if refusal is None else {**(said or {}), "refusal": refusal}

    def reasoning_tokens(self) -> int:
        """The number of the part's tokens that are reasoning."""
        if self.parser is None or not self._token_ids:
            return 0
        return self.parser.reasoning_tokens(tuple(self._token_ids))


class _Steps(StreamSink):
    """The sink of a conversation: parses its outputs and passes them to the listener."""

    def __init__(
        self, conversation: Conversation, job: Job, listener: ChatListener, writer: Writer
    ) -> None:
        prepared, chat = conversation.prepared, conversation.chat
        counts, make = prepared.counts_reasoning, prepared.parser
        count = prepared.sampling.n
        super().__init__(writer, texts=count == 1 and make is None and not conversation.details)
        self._conversation = conversation
        self._job = job
        self._listener = listener
        self._usage = Usage(conversation.prompt_tokens, reasoning_tokens=0 if counts else None)
        self._counts = counts
        self._answers = [_Answer(make() if make else None, counts=counts) for _ in range(count)]
        self._named = chat.tool_choice.startswith(_NAMED)
        self._tells = conversation.tells_tokens and not conversation.hides_tokens

    def _begin(self, output: Output) -> None:
        self._usage.cached_tokens = output.cached_tokens
        self._usage.created_tokens = output.created_tokens
        self._conversation.prompt_logprobs = output.prompt_logprobs
        if (structure := self._job.sampling.structure) is not None and structure.is_checked:
            check = SchemaCheck(structure.json_schema)
            self._texts = False  # the text is needed whole
            for answer in self._answers:
                answer.check = check
        self._listener.begin(self._usage)

    def _read(self, part: Part) -> None:
        if self._texts:
            super()._read(part)
            return
        answer, ended = self._answers[part.index], part.finish_reason is not None
        said = answer.read_checked(part)
        shown = self._conversation.shown(part)
        if said is None and not ended and shown.logprobs is None and not self._tells:
            return
        step = ChatStep(part.index, said, shown, self._reason(part, answer), answer.tokens)
        if self._counts and self._conversation.tells_usage:
            step.reasoning_tokens = answer.reasoning_tokens()
        self._listener.take(step)

    def _reason(self, part: Part, answer: _Answer) -> str | None:
        if part.finish_reason == "stop" and answer.called and not self._named:
            return "tool_calls"
        return part.finish_reason

    def _send(self, parts: Sequence[Part]) -> None:
        for part in parts:
            self._listener.take(ChatStep(0, {"content": part.text}, part, part.finish_reason))

    def close(self) -> None:
        """Complete the usage and tell the listener that all answers have ended."""
        self._usage.completion_tokens = self.tokens
        if self.first is not None:
            self._usage.cached_tokens = self.first.cached_tokens
        if self._counts:
            self._usage.reasoning_tokens = sum(each.reasoning_tokens() for each in self._answers)
        self._listener.end()


def _offered(model: ServedModel, chat: Chat) -> Chat:
    """The chat, without its tools if tool calls of this model cannot be read.

    The model then answers in text, and the request notes its tools as ignored. Raises
    UnsupportedFeature for a `tool_choice` that demands a call.
    """
    if not chat.tools or model.chats.calls_tools:
        return chat
    if chat.tool_choice not in ("auto", "none"):
        raise UnsupportedFeature(
            "tool_choice: calls of this model cannot be read, so it must be auto or none; the "
            "operator can set engine.tool_call_parser",
            param="tool_choice",
        )
    context = current_context()
    context.ignored_fields = (*context.ignored_fields, "tools")
    return replace(chat, tools=(), tool_choice="none")
