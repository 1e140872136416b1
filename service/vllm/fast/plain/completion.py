"""Completions of one prompt, without vLLM's handler."""

import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any

from pydantic import BaseModel
from vllm.entrypoints.generate.base.protocol import RequestResponseMetadata
from vllm.entrypoints.openai.completion.protocol import CompletionRequest
from vllm.outputs import RequestOutput
from vllm.renderers.inputs.preprocess import parse_dec_only_prompt

from service.vllm.client import GatedClient
from service.vllm.fast.plain.events import probes
from service.vllm.fast.plain.request import (
    PlainGenerations,
    PlainRequest,
    PlainRequests,
    is_plain_completion,
)
from service.vllm.generation import Generation

USES = (
    "reads vllm.entrypoints.openai.completion.protocol:CompletionRequest.build_tok_params",
    "reads vllm.entrypoints.openai.completion.serving:"
    "OpenAIServingCompletion.request_output_to_completion_response",
)
"""What of vLLM this module stands on (docs/vllm.md)."""

_METADATA = RequestResponseMetadata(request_id="probe")


class PlainCompletions:
    """Completions as vLLM's handler answers them."""

    prefix = "cmpl-"

    def __init__(self, handler: Any) -> None:
        self.handler = handler
        self.requests = PlainRequests(CompletionRequest, {"prompt": "any"})
        self._generations = PlainGenerations(handler)

    def takes(self, body: Mapping[str, Any]) -> bool:
        return is_plain_completion(body)

    def events(self, usage: bool) -> AsyncGenerator[str, None]:
        body = {"stream": True, "max_tokens": 2, "stream_options": {"include_usage": usage}}
        events: AsyncGenerator[str, None] = self.handler.completion_stream_generator(
            self.requests.make(body).request,
            [],
            _numbered(probes()),
            *("probe", 0, "probe"),
            num_prompts=1,
            tokenizer=self.handler.renderer.tokenizer,
            request_metadata=_METADATA,
        )
        return events

    async def whole(self) -> BaseModel:
        *_, last = [output async for output in probes()]
        answer: BaseModel = self.handler.request_output_to_completion_response(
            [last],
            self.requests.make({"max_tokens": 2}).request,
            *("probe", int(time.time()), "probe"),
            tokenizer=self.handler.renderer.tokenizer,
            request_metadata=_METADATA,
        )
        return answer

    async def generation(self, client: GatedClient, plain: PlainRequest) -> Generation:
        request = plain.request
        (prompt,) = await client.renderer.render_cmpl_async(
            [parse_dec_only_prompt(request.prompt)],
            request.build_tok_params(self.handler.model_config),
            prompt_extras={},
            skip_mm_cache=False,
        )
        return self._generations.make(client, plain, prompt, request.max_tokens)


async def _numbered(
    outputs: AsyncIterator[RequestOutput],
) -> AsyncIterator[tuple[int, RequestOutput]]:
    """The outputs with the number of their prompt."""
    async for output in outputs:
        yield 0, output
