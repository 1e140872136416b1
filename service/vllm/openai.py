"""vLLM's own OpenAI handlers on the gated client."""

import json
from argparse import Namespace
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing
from typing import Any, Protocol

from pydantic import BaseModel
from starlette.datastructures import State
from vllm.entrypoints.launchers.api_server.app_state import init_app_state
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.completion.protocol import CompletionRequest
from vllm.lora.request import LoRARequest

from service.context import current_context
from service.engine.writer import Writer
from service.errors import UnsupportedFeature
from service.vllm.answers import answered, error_of, parse, streamed
from service.vllm.client import GatedClient
from service.vllm.generation import lora_request
from service.vllm.handlers import Messages, Responses
from service.vllm.named_tier import named_tier, with_tier
from service.vllm.patches.parsers import mended
from service.vllm.patches.whole_context import lower_max_tokens
from service.vllm.tool_calls import offered, offers, without_tools

USES = (
    "calls vllm.entrypoints.launchers.api_server.app_state:init_app_state",
    "calls vllm.entrypoints.openai.chat_completion.serving:"
    "OpenAIServingChat.create_chat_completion",
    "reads vllm.entrypoints.openai.chat_completion.serving:OpenAIServingChat.enable_auto_tools",
    "replaces vllm.entrypoints.openai.chat_completion.serving:OpenAIServingChat.parser_cls",
    "calls vllm.entrypoints.openai.completion.serving:OpenAIServingCompletion.create_completion",
    "replaces vllm.entrypoints.openai.models.serving:OpenAIServingModels.lora_requests",
    "replaces vllm.entrypoints.openai.models.serving:OpenAIServingModels.model_name",
    "reads vllm.entrypoints.openai.models.serving:OpenAIServingModels.registry",
    "replaces vllm.entrypoints.openai.responses.serving:OpenAIServingResponses.parser",
    "replaces vllm.renderers.online_renderer:OnlineRenderer.parser",
)
"""What of vLLM this module stands on (docs/vllm.md)."""


class PushedStream(Protocol):
    """A streamed answer that writes itself in the engine's own steps."""

    async def write_to(self, writer: Writer) -> None:
        """Run the request and write its events; raises ServiceError."""


OpenAIAnswer = dict[str, Any] | bytes | AsyncGenerator[bytes, None] | PushedStream


class ShortAnswers(Protocol):
    """Answers bodies without a handler of vLLM's, as that would answer them."""

    def takes(self, body: Mapping[str, Any]) -> bool:
        """True for an accepted body that can be answered so."""

    async def answer(self, body: Mapping[str, Any]) -> bytes | PushedStream:
        """The JSON of the answer, or its stream; raises ServiceError."""


class OpenAISurface:
    """Chat completions, completions and models as vLLM serves them, `responses` and `messages`.

    A whole answer is a body, or the JSON of one if the request is plain. A streamed answer is an
    iterator of server-sent events, or a `PushedStream` if the request is plain. All raise
    ServiceError where vLLM would put an error into the body.
    """

    plain_chats: ShortAnswers | None = None
    plain_completions: ShortAnswers | None = None

    def __init__(self, client: GatedClient, state: State, chat_without_tools: Any) -> None:
        self.client = client
        self._state = state
        self.chat_handler = chat_without_tools
        """vLLM's handler of chats that offer no tools."""
        self.completions = state.openai_serving_completion
        """vLLM's handler of completions."""
        self._models = state.openai_serving_models
        self._models.lora_requests = _RequestsAdapter()
        self._models.model_name = _requests_model
        self.responses = Responses(state.openai_serving_responses)
        self.messages = Messages(state.anthropic_serving_messages)

    @classmethod
    async def create(cls, client: GatedClient, arguments: Namespace) -> "OpenAISurface":
        """Build vLLM's serving objects on the gated client."""
        state = State()
        lower_max_tokens()
        await init_app_state(client, state, arguments, await client.get_supported_tasks())
        for holder in (state.online_renderer, state.openai_serving_responses):
            holder.parser = mended(holder.parser)
        for chats in (state.openai_serving_chat, state.anthropic_serving_messages):
            chats.parser_cls = mended(chats.parser_cls)
        chat = without_tools(state.openai_serving_chat, arguments)
        surface = cls(client, state, chat)
        surface.responses.begin()
        await surface.messages.begin()
        return surface

    @property
    def calls_tools(self) -> bool:
        """True if calls of tools can be found in what the model writes."""
        return bool(self._state.openai_serving_chat.enable_auto_tools)

    async def chat(self, body: dict[str, Any]) -> OpenAIAnswer:
        """Answer a chat completion request."""
        if body.get("documents") and "documents" not in self._template():
            raise UnsupportedFeature(
                "documents: this model's chat template reads none; write them into a message",
                param="documents",
            )
        if self.plain_chats is not None and self.plain_chats.takes(body):
            return await self.plain_chats.answer(body)
        handler = self._state.openai_serving_chat
        body = offered(body, readable=handler.enable_auto_tools)
        request = parse(ChatCompletionRequest, body | _own_id())
        handler = handler if offers(body) else self.chat_handler
        return await _answer(handler.create_chat_completion(request))

    async def completion(self, body: dict[str, Any]) -> OpenAIAnswer:
        """Answer a completion request."""
        if self.plain_completions is not None and self.plain_completions.takes(body):
            return await self.plain_completions.answer(body)
        request = parse(CompletionRequest, body | _own_id())
        return await _answer(self.completions.create_completion(request))

    def _template(self) -> str:
        chat = self._state.openai_serving_chat
        return str(chat.chat_template or chat.renderer.tokenizer.chat_template)

    async def models(self, adapters: Mapping[str, str], *, with_base: bool) -> list[dict[str, Any]]:
        """The cards of adapters, by name with their task, and of the base if it may be known.

        Their `root` is the name itself, because vLLM would show a folder of the server. `tools` is
        true where a chat may call tools.
        """
        (base,) = (await self._models.registry.show_available_models()).data
        parent = base.id if with_base else None
        tools = self.calls_tools
        cards = [(base.id, None, "generation")] if with_base else []
        cards += [(name, parent, task) for name, task in adapters.items()]
        return [
            base.model_dump()
            | {"id": name, "root": name, "parent": parent, "owned_by": "llm-service"}
            | {"task": task, "tools": tools and task == "generation"}
            for name, parent, task in cards
        ]


class _RequestsAdapter(Mapping[str, LoRARequest]):
    """The mapping in which vLLM's handlers look adapters up; it holds the current request's alone.

    The service's registry has resolved the name before, and the request keeps that version.
    """

    def __getitem__(self, name: str) -> LoRARequest:
        context = current_context()
        request = lora_request(context.adapter)
        if request is None or name != context.model:
            raise KeyError(name)
        return request

    def __iter__(self) -> Iterator[str]:
        context = current_context()
        return iter([context.model] if context.adapter else [])

    def __len__(self) -> int:
        return len(list(iter(self)))


def _own_id() -> dict[str, str]:
    return {"request_id": current_context().request_id}


def _requests_model(adapter: LoRARequest | None = None) -> str:
    """The model name in the request; vLLM would answer with the name in the engine."""
    return current_context().model


async def _answer(call: Any) -> OpenAIAnswer:
    answer = await answered(call)
    if isinstance(answer, BaseModel):
        return answer.model_dump() | {"service_tier": named_tier(current_context())}
    return _events(answer)


async def _events(stream: AsyncGenerator[str, None]) -> AsyncGenerator[bytes, None]:
    context = current_context()
    async with aclosing(streamed(stream)) as events:
        async for event in events:
            if event.startswith('data: {"error"'):
                raise error_of(json.loads(event.removeprefix("data: "))["error"])
            yield with_tier(event, context).encode()
