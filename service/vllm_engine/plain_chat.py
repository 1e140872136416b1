"""Streamed chats of plain texts, without vLLM's handler."""

from collections.abc import AsyncGenerator, Mapping
from typing import Any

from vllm.entrypoints.generate.base.protocol import RequestResponseMetadata
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.serve.engine.protocol import ErrorResponse

from service.vllm_engine.answers import error_of
from service.vllm_engine.client import GatedClient
from service.vllm_engine.generation import explain
from service.vllm_engine.plain_events import probes
from service.vllm_engine.plain_request import PlainRequests, generation
from service.vllm_engine.plain_stream import PlainStream, PlainStreams

_LEAST = {"messages": [{"role": "user", "content": "any"}]}


class PlainChats:
    """Answers plain bodies as vLLM's handler of chats does; its own renderer makes the prompt."""

    def __init__(
        self, client: GatedClient, handler: Any, requests: PlainRequests, streams: PlainStreams
    ) -> None:
        self._client = client
        self._handler = handler
        self._requests = requests
        self.streams = streams

    @classmethod
    async def of(cls, client: GatedClient, handler: Any) -> "PlainChats | None":
        """Streams in the place of a handler's; None where its events are not plain."""
        if handler.parser_cls is not None:
            return None
        requests = PlainRequests(ChatCompletionRequest, _LEAST)

        def generator(usage: bool) -> AsyncGenerator[str, None]:
            body = {"stream": True, "stream_options": {"include_usage": usage}}
            events: AsyncGenerator[str, None] = handler.chat_completion_stream_generator(
                requests.make(body),
                probes(),
                *("probe", "probe", []),
                handler.renderer.tokenizer,
                RequestResponseMetadata(request_id="probe"),
            )
            return events

        streams = await PlainStreams.of(client, handler, "chatcmpl-", generator)
        return None if streams is None else cls(client, handler, requests, streams)

    async def stream(self, body: Mapping[str, Any]) -> PlainStream:
        """The answer to a plain body that is to be streamed; raises ServiceError."""
        try:
            return await self._stream(body)
        except Exception as error:
            raise explain(error) or error from error

    async def _stream(self, body: Mapping[str, Any]) -> PlainStream:
        client, handler = self._client, self._handler
        if client.errored:
            raise client.dead_error
        request = self._requests.make(body)
        rendered = await handler.online_renderer.render_chat(request)
        if isinstance(rendered, ErrorResponse):
            raise error_of(rendered.error.model_dump())
        _, (prompt,) = rendered
        asked = body.get("max_completion_tokens", body.get("max_tokens"))
        options = handler._engine_reasoning_kwargs(request, None, {}, prompt["prompt_token_ids"])
        made = generation(client, handler, request, prompt, asked, **options)
        return self.streams.make(request, made)
