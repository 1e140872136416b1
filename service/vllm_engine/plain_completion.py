"""Whole completions of one prompt, without vLLM's handler."""

import time
from collections.abc import Mapping
from typing import Any

from pydantic_core import to_json
from vllm.entrypoints.openai.completion.protocol import (
    CompletionRequest,
    CompletionResponse,
    CompletionResponseChoice,
)
from vllm.entrypoints.serve.engine.protocol import PromptTokenUsageInfo, UsageInfo
from vllm.entrypoints.serve.utils.api_utils import get_max_tokens
from vllm.outputs import RequestOutput
from vllm.renderers.inputs.preprocess import parse_dec_only_prompt

from service.context import RequestContext, current_context
from service.vllm_engine.client import GatedClient
from service.vllm_engine.generation import explain, lora_request
from service.vllm_engine.named_tier import named_tier
from service.vllm_engine.push import Last

_KINDS: Mapping[str, type] = {
    "model": str,
    "user": str,
    "max_tokens": int,
    "seed": int,
    "top_k": int,
    "ignore_eos": bool,
}
"""Types of fields that vLLM's model would take over as they are."""
_NUMBERS = frozenset(
    """temperature top_p min_p presence_penalty frequency_penalty
    repetition_penalty""".split()
)
_FIXED: Mapping[str, Any] = {"n": 1, "stream": False}


def is_plain_completion(body: Mapping[str, Any]) -> bool:
    """True for an accepted body of one prompt whose fields vLLM's model would take as they are."""
    return "prompt" in body and all(_takes(name, value) for name, value in body.items())


def _takes(name: str, value: Any) -> bool:
    if (kind := _KINDS.get(name)) is not None:
        return type(value) is kind
    if name == "prompt":
        return _is_one(value)
    if name in _NUMBERS:
        return type(value) is float or type(value) is int
    if name in _FIXED:
        return type(value) is type(_FIXED[name]) and bool(value == _FIXED[name])
    return name == "stop"  # checked already


def _is_one(prompt: Any) -> bool:
    """True for a text, and for the ids of tokens."""
    if isinstance(prompt, str):
        return True
    return isinstance(prompt, list) and all(type(item) is int and item >= 0 for item in prompt)


class PlainRequests:
    """Makes vLLM's requests of plain bodies: its model validates one, the others are its copies."""

    def __init__(self) -> None:
        self._first = CompletionRequest.model_validate({"prompt": "any"})

    def make(self, body: Mapping[str, Any]) -> CompletionRequest:
        """The request that vLLM's model makes of a plain body, but for its id."""
        numbers = {name: float(body[name]) for name in _NUMBERS & body.keys()}
        return self._first.model_copy(update={"stop": [], **body, **numbers})


class PlainCompletions:
    """Answers plain bodies as vLLM's handler of completions does, byte for byte.

    The fields, which were checked, are put into a request of vLLM's without its validation. It
    makes the prompt and the sampling, as for the handler. The values of the answer are put into the
    places that they have in an answer of vLLM's.
    """

    def __init__(self, client: GatedClient, handler: Any) -> None:
        self._client = client
        self._handler = handler
        self._requests = PlainRequests()
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
    def of(cls, client: GatedClient, handler: Any) -> "PlainCompletions | None":
        """Answers in the place of a handler; None where its answers hold more than a plain one."""
        config = client.vllm_config
        more = (
            handler.enable_per_request_metrics
            or config.kv_transfer_config
            or config.ec_transfer_config
            or config.speculative_config
            or config.aux_output_config.enable_return_routed_experts
        )
        return None if more else cls(client, handler)

    async def answer(self, body: Mapping[str, Any]) -> bytes:
        """The JSON of the answer to a plain body; raises ServiceError."""
        try:
            return await self._answered(body, current_context())
        except Exception as error:
            raise explain(error) or error from error

    async def _answered(self, body: Mapping[str, Any], context: RequestContext) -> bytes:
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
        most = get_max_tokens(
            handler.model_config.max_model_len,
            request.max_tokens,
            len(prompt["prompt_token_ids"]),
            handler.default_sampling_params,
            handler.override_max_tokens,
        )
        params = request.to_sampling_params(most, handler.default_sampling_params)
        last = Last()
        lora = lora_request(context.adapter)
        await client.push(client.request(prompt, params, lora_request=lora), last)
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
