"""A chat under way: its prompt, and its answers as they are made or once they are whole.

OpenAI's chats, Responses and Anthropic's Messages are all conversations; each API only says in its
own form what a conversation tells its listener.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from service.engine.chats import Chat, PreparedChat, Said
from service.engine.contract import Part
from service.engine.protocol import Adapter, Sampling
from service.engine.writer import Writer


@dataclass(slots=True)
class Usage:
    """Tokens of a conversation so far.

    `cached_tokens` of the prompt came from the cache. `reasoning_tokens` is None where the model
    has no thoughts that are told apart.
    """

    prompt_tokens: int = 0
    cached_tokens: int = 0
    created_tokens: int | None = None
    completion_tokens: int = 0
    reasoning_tokens: int | None = None


@dataclass(slots=True)
class ChatStep:
    """More of one answer.

    `delta` is the delta of a chat completion's chunk: `content`, `reasoning` and `tool_calls`
    (`index`, and `id`, `type`, `function.name`, `function.arguments` as far as they are new), each
    only if it is there; None if the step says nothing, but ends the answer or has log-probabilities.
    `finish_reason` is `stop`, `length` or `tool_calls` in the answer's last step.
    """

    index: int
    delta: Mapping[str, Any] | None
    part: Part
    finish_reason: str | None = None


class ChatListener(Protocol):
    """Is told of a conversation's answers as they are made; what it raises ends the conversation."""

    def begin(self, usage: Usage) -> None:
        """The first answer begins; the usage holds the prompt's tokens, and is kept up to date."""

    def take(self, step: ChatStep) -> None:
        """More of an answer; its tokens are counted in the usage."""

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
    """A chat whose prompt is rendered; `whole` and `stream` take a place at the gate."""

    def __init__(self, model: Any, chat: Chat, prepared: PreparedChat, adapter: Adapter | None) -> None:
        self._model = model
        self.chat = chat
        self.prepared = prepared
        self._adapter = adapter

    @classmethod
    async def prepare(
        cls, model: Any, chat: Chat, sampling: Sampling, adapter: Adapter | None
    ) -> "Conversation":
        """Render a chat; raises InvalidRequest for one that does not fit the model's context."""
        raise NotImplementedError

    @property
    def prompt_tokens(self) -> int:
        """The number of the prompt's tokens."""
        return len(self.prepared.prompt.token_ids)

    async def whole(self) -> tuple[list[Choice], Usage]:
        """The whole answers, in their order."""
        raise NotImplementedError

    async def stream(self, listener: ChatListener, writer: Writer) -> None:
        """Tell a listener of the answers as they are made, and wait until its client has them.

        Texts that come while the writer is busy become one step.
        """
        raise NotImplementedError
