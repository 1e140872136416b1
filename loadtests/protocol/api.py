"""The interface that translates a call to one API's requests and answers."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from loadtests.load.plan import Call
from loadtests.protocol.answer import Answer
from loadtests.protocol.sse import Line

ApiName = Literal[
    "native",
    "openai-chat",
    "openai-completions",
    "systemone",
    "vllm-scoring",
    "vllm-logprobs",
    "vllm-pooling",
]


@dataclass(frozen=True, slots=True)
class Request:
    """A POST: its path and its JSON body; `stream` is true if the answer is a stream."""

    path: str
    body: dict[str, Any]
    stream: bool


class Api(Protocol):
    """The format of one API; both readers raise MalformedAnswer."""

    def request(self, call: Call) -> Request:
        """The call on the wire."""

    def read_stream(self, lines: Iterable[Line]) -> Answer:
        """The answer in a stream's lines."""

    def read_body(self, body: bytes) -> Answer:
        """The answer in one JSON body: that to a batch, or a generation that is not streamed."""


def embedding_request(call: Call) -> Request:
    """The call by OpenAI's route for embeddings, which every server has."""
    body = {"model": call.model, "input": list(call.inputs)} | (call.extra or {})
    return Request("/v1/embeddings", body, stream=False)


def generation_body(call: Call, *, chat: bool) -> dict[str, Any]:
    """Fields of a generation request common to all APIs: messages, or one prompt without `chat`."""
    body: dict[str, Any] = {
        "model": call.model,
        "max_tokens": call.max_tokens,
        "temperature": call.temperature,
        "stream": True,
    } | (call.extra or {})
    if chat:
        body["messages"] = [{"role": each.role, "content": each.text} for each in call.messages]
    else:
        body["prompt"] = "\n\n".join(message.text for message in call.messages)
    return body
