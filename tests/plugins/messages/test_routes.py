"""The routes of Anthropic's Messages, on conversations that are made by hand."""

import json
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.responses import Response
from starlette.types import Message

from service.context import current_context, enter_context, internal_context
from service.engine.contract import Part, Sampling
from service.engine.texts import Chat, Said, Writer
from service.errors import EngineDead, ServiceError
from service.generation.conversation import ChatListener, ChatStep, Choice, Usage
from service.http.exchange import KEY, Peer
from service.openai.body import read_body
from service.plugins.messages import plugin as route
from service.plugins.messages.body import CountTokensBody, MessagesBody
from service.routes import openai
from service.runtime.parts import Served
from service.settings.limits import LimitSettings

ASKED: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
READ: list[dict[str, Any]] = []
"""What guards were given."""


class Conversation:
    """Says "Hello"; `failure` ends it after that."""

    asked: tuple[Any, Chat, Sampling, Any]
    failure: ServiceError | None = None
    prompt_tokens = 9

    @classmethod
    async def prepare(cls, *asked: Any) -> "Conversation":
        cls.asked = asked
        return cls()

    async def whole(self) -> tuple[list[Choice], Usage]:
        part = Part(0, "Hello", [1], "stop")
        return [Choice(0, Said("Hello"), part, "stop")], Usage(9, 0, None, 1)

    async def stream(self, listener: ChatListener, writer: Writer) -> None:
        usage = Usage(9)
        listener.begin(usage)
        listener.take(ChatStep(0, {"content": "Hello"}, Part(0, "Hello", [1], "stop"), "stop"))
        if self.failure is not None:
            raise self.failure
        usage.completion_tokens = 1
        listener.end()
        await writer.flush()


@pytest.fixture(autouse=True)
def request_of_a_client(monkeypatch: pytest.MonkeyPatch) -> None:
    READ.clear()
    monkeypatch.setattr(openai, "Conversation", Conversation)
    context = internal_context("test", 600)
    context.model = "m"
    enter_context(context)


def served(**engine: Any) -> Any:
    """A service whose model draws as these defaults say."""
    chosen = SimpleNamespace(
        adapter="adapter", check_converses=lambda: None, sampling=lambda of_base: of_base
    )
    model = SimpleNamespace(sampling_defaults=engine)

    async def accept(request: Served) -> None:
        READ.append({**request.body})

    return SimpleNamespace(
        models=SimpleNamespace(choose=lambda *_: chosen),
        base=SimpleNamespace(engine=SimpleNamespace(model=model)),
        plugins=SimpleNamespace(accept=accept),
    )


async def answered(**fields: Any) -> bytes:
    """The body of the answer to a message."""
    limits = LimitSettings()
    body, _ = read_body(MessagesBody, ASKED | {"max_tokens": 7} | fields, limits, 2048)
    return await sent(await route.messages(body, served(temperature=0.5), current_context()))


async def sent(answer: Response) -> bytes:
    """What an answer writes to a connection that takes everything, to its error if it has one."""
    parts: list[bytes] = []

    async def send(message: Message) -> None:
        parts.append(message.get("body", b""))

    async def receive() -> Message:
        raise AssertionError("nothing is received")

    peer = Peer(parts.append, blocked=lambda: False)
    scope = {"type": "http", "path": "/v1/messages", KEY: peer}
    with suppress(EngineDead):
        await answer(scope, receive, send)
    return b"".join(parts)


def events(body: bytes) -> list[tuple[str, dict[str, Any]]]:
    """Names and data of events."""
    told = [event.split("\ndata: ") for event in body.decode().removesuffix("\n\n").split("\n\n")]
    return [(name.removeprefix("event: "), json.loads(data)) for name, data in told]


async def test_a_message_is_what_the_conversation_says() -> None:
    answer = json.loads(await answered(system="Be short."))
    assert answer == {
        "id": "msg_test",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [{"type": "text", "text": "Hello"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 9, "output_tokens": 1, "cache_read_input_tokens": 0},
    }
    _, chat, sampling, adapter = Conversation.asked
    assert (sampling.max_tokens, sampling.temperature, adapter) == (7, 0.5, "adapter")
    assert [each["content"] for each in chat.messages] == ["Be short.", "Hi"]
    (read,) = READ
    assert (read["system"], read["messages"]) == ("Be short.", ASKED["messages"])


async def test_a_streamed_message_is_its_events() -> None:
    assert [name for name, _ in events(await answered(stream=True))] == [
        *("message_start", "content_block_start", "content_block_delta", "content_block_stop"),
        *("message_delta", "message_stop"),
    ]


async def test_a_stream_that_fails_ends_with_an_event_of_anthropics(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Conversation, "failure", EngineDead.midway())
    *_, (name, data) = events(await answered(stream=True))
    assert (name, data["type"], data["request_id"]) == ("error", "error", "test")
    assert data["error"]["type"] == "overloaded_error"


async def test_tokens_are_those_of_the_prompt() -> None:
    body, _ = read_body(CountTokensBody, ASKED, LimitSettings(), 2048)
    answer = await sent(await route.count_tokens(body, served(), current_context()))
    assert json.loads(answer) == {"input_tokens": 9}
    assert READ == []
