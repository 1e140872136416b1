"""Completions of one prompt, without vLLM's handler."""

import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any

from pydantic_core import to_json
from vllm.entrypoints.generate.base.protocol import RequestResponseMetadata
from vllm.entrypoints.openai.completion.protocol import (
    CompletionRequest,
    CompletionResponse,
    CompletionResponseChoice,
)
from vllm.entrypoints.serve.engine.protocol import PromptTokenUsageInfo, UsageInfo
from vllm.outputs import RequestOutput
from vllm.renderers.inputs.preprocess import parse_dec_only_prompt

from service.context import RequestContext, current_context
from service.vllm_engine.client import GatedClient
from service.vllm_engine.generation import explain
from service.vllm_engine.named_tier import named_tier
from service.vllm_engine.plain_events import probes
from service.vllm_engine.plain_request import PlainRequests, generation
from service.vllm_engine.plain_stream import PlainStream, PlainStreams
from service.vllm_engine.push import Last

_LEAST = {"prompt": "any"}


async def completion_streams(client: GatedClient, handler: Any) -> PlainStreams | None:
    """The plain streams of a handler; None where its events are not plain."""
    requests = PlainRequests(CompletionRequest, _LEAST)

    def generator(usage: bool) -> AsyncGenerator[str, None]:
        body = {"stream": True, "max_tokens": 2, "stream_options": {"include_usage": usage}}
        events: AsyncGenerator[str, None] = handler.completion_stream_generator(
            requests.make(body),
            [],
            _numbered(probes()),
            *("probe", 0, "probe"),
            num_prompts=1,
            tokenizer=handler.renderer.tokenizer,
            request_metadata=RequestResponseMetadata(request_id="probe"),
        )
        return events

    return await PlainStreams.of(client, handler, "cmpl-", generator)


async def _numbered(
    outputs: AsyncIterator[RequestOutput],
) -> AsyncIterator[tuple[int, RequestOutput]]:
    """The outputs with the number of their prompt."""
    async for output in outputs:
        yield 0, output


class PlainCompletions:
    """Answers plain bodies as vLLM's handler of completions does, byte for byte.

    The fields, which were checked, are put into a request of vLLM's without its validation. It
    makes the prompt and the sampling, as for the handler. The values of the answer are put into the
    places that they have in an answer of vLLM's.
    """

    def __init__(self, client: GatedClient, handler: Any, streams: PlainStreams) -> None:
        self._client = client
        self._handler = handler
        self._streams = streams
        self._requests = PlainRequests(CompletionRequest, _LEAST)
        answer = CompletionResponse(
            model="any",
            choices=[CompletionResponseChoice(index=0, text="")],
            usage=UsageInfo(),
            system_fingerprint=handler.system_fingerprint,
        )
        self._answer = answer.model_dump()
        self._choice = self._answer["choices"][0]
        self._usage = self._answer["usage"]
        self._cached = PromptTokenUsageInfo().model_dump()

    @classmethod
    def of(
        cls, client: GatedClient, handler: Any, streams: PlainStreams
    ) -> "PlainCompletions | None":
        """Answers in the place of a handler; None where its answers hold more than a plain one."""
        config = client.vllm_config
        more = (
            config.kv_transfer_config
            or config.ec_transfer_config
            or config.aux_output_config.enable_return_routed_experts
        )
        return None if more else cls(client, handler, streams)

    async def answer(self, body: Mapping[str, Any]) -> bytes | PlainStream:
        """The JSON of the answer to a plain body, or its stream; raises ServiceError."""
        try:
            return await self._answered(body, current_context())
        except Exception as error:
            raise explain(error) or error from error

    async def _answered(
        self, body: Mapping[str, Any], context: RequestContext
    ) -> bytes | PlainStream:
        client, handler = self._client, self._handler
        if client.errored:
            raise client.dead_error
        request = self._requests.make(body)
        (prompt,) = await client.renderer.render_cmpl_async(
            [parse_dec_only_prompt(request.prompt)],
            request.build_tok_params(handler.model_config),
            prompt_extras={},
            skip_mm_cache=False,
        )
        created = int(time.time())
        made = generation(client, handler, request, prompt, request.max_tokens)
        if request.stream:
            return self._streams.make(request, made)
        last = Last()
        await client.push(made, last)
        assert last.output is not None
        return to_json(self._written(last.output, created, context))

    def _written(
        self, output: RequestOutput, created: int, context: RequestContext
    ) -> dict[str, Any]:
        (said,) = output.outputs
        name = f"cmpl-{context.request_id}"
        self._handler._raise_if_error(said.finish_reason, name)
        choice = {
            **self._choice,
            "text": said.text,
            "finish_reason": said.finish_reason,
            "stop_reason": said.stop_reason,
        }
        return {
            **self._answer,
            "id": name,
            "created": created,
            "model": context.model,
            "choices": [choice],
            "service_tier": named_tier(context),
            "usage": self._used(output),
        }

    def _used(self, output: RequestOutput) -> dict[str, Any]:
        prompt, made = len(output.prompt_token_ids), len(output.outputs[0].token_ids)
        details = None
        if self._handler.enable_prompt_tokens_details and output.num_cached_tokens is not None:
            details = {**self._cached, "cached_tokens": output.num_cached_tokens}
        return {
            **self._usage,
            "prompt_tokens": prompt,
            "completion_tokens": made,
            "total_tokens": prompt + made,
            "prompt_tokens_details": details,
        }
