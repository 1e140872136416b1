"""Chats of plain texts, without vLLM's handler."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel
from vllm.entrypoints.generate.base.protocol import RequestResponseMetadata
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.serve.engine.protocol import ErrorResponse

from service.vllm.answers import error_of
from service.vllm.client import GatedClient
from service.vllm.fast.plain.events import probes
from service.vllm.fast.plain.request import (
    PlainGenerations,
    PlainRequest,
    PlainRequests,
    is_plain_chat,
)
from service.vllm.generation import Generation

USES = (
    "reads vllm.entrypoints.openai.chat_completion.serving:"
    "OpenAIServingChat._engine_reasoning_kwargs",
    "reads vllm.entrypoints.openai.chat_completion.serving:"
    "OpenAIServingChat.chat_completion_full_generator",
    "reads vllm.renderers.online_renderer:OnlineRenderer.render_chat",
)
"""What of vLLM this module stands on (docs/vllm.md)."""

_LEAST = {"messages": [{"role": "user", "content": "any"}]}


class PlainChats:
    """Chats as vLLM's handler answers them; its own renderer makes the prompt."""

    prefix = "chatcmpl-"

    def __init__(self, handler: Any) -> None:
        self.handler = handler
        self.requests = PlainRequests(ChatCompletionRequest, _LEAST)
        self._generations = PlainGenerations(handler)

    def takes(self, body: Mapping[str, Any]) -> bool:
        return is_plain_chat(body)

    def events(self, usage: bool) -> AsyncGenerator[str, None]:
        body = {"stream": True, "stream_options": {"include_usage": usage}}
        events: AsyncGenerator[str, None] = self.handler.chat_completion_stream_generator(
            *self._probe(body)
        )
        return events

    async def whole(self) -> BaseModel:
        answer: BaseModel = await self.handler.chat_completion_full_generator(*self._probe({}))
        return answer

    def _probe(self, body: dict[str, Any]) -> tuple[Any, ...]:
        """The arguments with which the handler answers a body with `probes`."""
        request, tokenizer = self.requests.make(body).request, self.handler.renderer.tokenizer
        metadata = RequestResponseMetadata(request_id="probe")
        return request, probes(), "probe", "probe", [], tokenizer, metadata

    async def generation(self, client: GatedClient, plain: PlainRequest) -> Generation:
        request = plain.request
        rendered = await self.handler.online_renderer.render_chat(request)
        if isinstance(rendered, ErrorResponse):
            raise error_of(rendered.error.model_dump())
        _, (prompt,) = rendered
        asked = request.max_completion_tokens
        if asked is None:
            asked = vars(request)["max_tokens"]  # as an attribute it is deprecated, with a warning
        options = self._about_thoughts(request, prompt["prompt_token_ids"])
        return self._generations.make(client, plain, prompt, asked, **options)

    def _about_thoughts(self, request: Any, prompt: Sequence[int]) -> dict[str, Any]:
        """What the engine is told about thoughts, which no plain chat's parser looks for."""
        if hasattr(self.handler, "_engine_reasoning_kwargs"):
            found: dict[str, Any] = self.handler._engine_reasoning_kwargs(request, None, {}, prompt)
            return found
        # An older vLLM has the same within its handler.
        ended = True if not request.include_reasoning or request._grammar_from_parser else None
        return {"reasoning_ended": ended, "reasoning_parser_kwargs": None}
