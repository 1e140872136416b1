"""Roles of a language model that the service serves, and what an engine brings to make one."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from service.engine.chats import ChatFormat
from service.engine.contract import Job, Sink
from service.engine.protocol import (
    AdapterHost,
    ChatFrame,
    HasModel,
    LabelEngine,
    Message,
    Pulse,
    Reading,
    Sampling,
    Tokeniser,
    Vocabulary,
)


class Texts(Vocabulary, Protocol):
    """The tokeniser and the chat template of a model, on the caller's own thread.

    Prompts longer than the model's context raise InvalidRequest, with counts.
    """

    @property
    def chat_frame(self) -> ChatFrame: ...

    def render(self, prompt: str | Sequence[int], reading: Reading) -> list[int]:
        """Token ids of a plain prompt; InvalidRequest for ids that the model does not have."""

    def render_chat(self, messages: Sequence[Message]) -> list[int]:
        """Token ids of a conversation, ready for the assistant's answer."""

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of token ids, special tokens included; InvalidRequest for an unknown id."""


class Structures(Protocol):
    """Compiles the structures of answers before they are admitted."""

    def compiled(self, sampling: Sampling) -> AbstractAsyncContextManager[Sampling]:
        """Compile a structure, in the tenant's fair turns, for a block that runs it.

        Raises InvalidRequest for one that cannot be enforced or takes too long.
        """

    def stop(self) -> None:
        """End what compiles."""


class Generator(HasModel, Protocol):
    """Answers; each takes a place at the gate: QueueFull, DeadlineExceeded or EngineDead."""

    async def run(self, job: Job, sink: Sink) -> None:
        """Run a generation as a part of the current request, and hand its outputs to a sink.

        Its longest answer is what the prompt leaves of the context. Raises InvalidRequest where
        that is nothing, and what the sink raises.
        """


class TextEngine(Tokeniser, Generator, Protocol):
    """Roles that generation needs."""


class Decoder(TextEngine, LabelEngine, Protocol):
    """Roles that both tasks need, and so the proof of an adapter."""


class AdaptedDecoder(Decoder, AdapterHost, Protocol):
    """Roles that loading and proving adapters needs."""


class LanguageModel(AdaptedDecoder, Pulse, Protocol):
    """Every role of one language model, which the service starts, warms up and stops."""

    @property
    def chats(self) -> ChatFormat:
        """The format of its conversations."""

    def refuse_early(self) -> None:
        """Raise for a request that has no chance at the gate, before its prompt is read."""

    async def warm_up(self) -> None:
        """Take each path of the engine once, past the gate.

        Raises EngineDead if the engine ends, ConfigurationError if all of them take too long.
        """

    async def stop(self) -> None:
        """End the engine and free what it holds."""
