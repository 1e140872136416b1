"""Plain bodies, whose fields vLLM's models would take as they are, and the requests of these."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from pydantic import BaseModel
from vllm.entrypoints.generate.base.protocol import StreamOptions
from vllm.entrypoints.serve.utils.api_utils import get_max_tokens
from vllm.sampling_params import SamplingParams

from service.context import current_context
from service.vllm.client import GatedClient
from service.vllm.fast.engine import FastEngine
from service.vllm.generation import Generation, lora_request

USES = (
    "reads vllm.entrypoints.openai.chat_completion.protocol:"
    "ChatCompletionRequest.to_sampling_params",
    "reads vllm.entrypoints.openai.chat_completion.serving:"
    "OpenAIServingChat.default_sampling_params",
    "reads vllm.entrypoints.openai.chat_completion.serving:OpenAIServingChat.override_max_tokens",
    "reads vllm.entrypoints.openai.completion.protocol:CompletionRequest.to_sampling_params",
)
"""What of vLLM this module stands on (docs/vllm.md)."""

_KINDS: Mapping[str, type] = {
    "model": str,
    "user": str,
    "max_tokens": int,
    "seed": int,
    "top_k": int,
    "ignore_eos": bool,
    "stream": bool,
}
"""Types of fields that vLLM's model would take over as they are."""
_NUMBERS = frozenset(
    """temperature top_p min_p presence_penalty frequency_penalty
    repetition_penalty""".split()
)
_UNSAMPLED = {"model", "user", "prompt", "messages", "stream_options"}
_SINGLE = {"seed", "stop"}
_MOST_KEPT = 1024
_MESSAGE = {"role", "content"}
_ROLES = ("system", "user", "assistant")


def is_plain_completion(body: Mapping[str, Any]) -> bool:
    """True for an accepted body of one prompt whose fields vLLM's model would take as they are."""
    return "prompt" in body and _takes(body, {"prompt": _is_one_prompt})


def is_plain_chat(body: Mapping[str, Any]) -> bool:
    """True for an accepted body of text messages whose fields vLLM would take as they are."""
    own = {"messages": _are_texts, "max_completion_tokens": _is_integer}
    return "messages" in body and _takes(body, own)


def _takes(body: Mapping[str, Any], own: Mapping[str, Callable[[Any], bool]]) -> bool:
    return all(_takes_field(name, value, own) for name, value in body.items()) and (
        "stream_options" not in body or body.get("stream") is True
    )


def _takes_field(name: str, value: Any, own: Mapping[str, Callable[[Any], bool]]) -> bool:
    if (kind := _KINDS.get(name)) is not None:
        return type(value) is kind
    if (takes := own.get(name)) is not None:
        return takes(value)
    if name in _NUMBERS:
        return type(value) is float or type(value) is int
    if name == "n":
        return type(value) is int and value == 1
    if name == "stream_options":
        return (
            isinstance(value, dict)
            and value.keys() == {"include_usage"}
            and type(value["include_usage"]) is bool
        )
    return name == "stop"  # checked already


def _is_integer(value: Any) -> bool:
    return type(value) is int


def _is_one_prompt(prompt: Any) -> bool:
    """True for a text or a list of token ids, not for a list of prompts."""
    if isinstance(prompt, str):
        return True
    return isinstance(prompt, list) and all(type(item) is int and item >= 0 for item in prompt)


def _are_texts(messages: Any) -> bool:
    """True for messages that hold a text, a role and nothing else."""
    return isinstance(messages, list) and all(
        isinstance(each, dict)
        and each.keys() == _MESSAGE
        and isinstance(each["content"], str)
        and each["role"] in _ROLES
        for each in messages
    )


class PlainRequest(NamedTuple):
    """A request of vLLM's."""

    request: Any
    sampled: tuple[tuple[str, Any], ...] | None
    """The fields that decide the parameters of sampling; None if few others will have the same."""


class PlainRequests:
    """Makes vLLM's requests of plain bodies: vLLM validates one, and the others are its copies."""

    def __init__(self, kind: type[BaseModel], least: Mapping[str, Any]) -> None:
        self._first = kind.model_validate(least)

    def make(self, body: Mapping[str, Any]) -> PlainRequest:
        """The request that vLLM's model makes of a plain body, except for its id."""
        changed = {name: float(body[name]) for name in _NUMBERS & body.keys()}
        if "stream_options" in body:
            changed["stream_options"] = _OPTIONS[body["stream_options"]["include_usage"]]
        request = self._first.model_copy(update={"stop": [], **body, **changed})
        return PlainRequest(request, _sampled(body))


def _sampled(body: Mapping[str, Any]) -> tuple[tuple[str, Any], ...] | None:
    if body.keys() & _SINGLE:
        return None
    return tuple(sorted(item for item in body.items() if item[0] not in _UNSAMPLED))


_OPTIONS = {asked: StreamOptions(include_usage=asked) for asked in (False, True)}


class PlainGenerations:
    """Makes the generations that one of vLLM's handlers would make of plain requests."""

    def __init__(self, handler: Any) -> None:
        self._handler = handler
        self._kept: dict[Any, SamplingParams] = {}

    def make(
        self,
        client: GatedClient,
        plain: PlainRequest,
        prompt: Any,
        asked: int | None,
        **options: Any,
    ) -> Generation:
        """The generation of a request with this prompt, which asks for so many tokens."""
        handler = self._handler
        most = get_max_tokens(
            handler.model_config.max_model_len,
            asked,
            len(prompt["prompt_token_ids"]),
            handler.default_sampling_params,
            handler.override_max_tokens,
        )
        shared = plain.sampled is not None
        params = self._shared(client, plain, most) if shared else self._own(plain, most)
        lora = lora_request(current_context().adapter)
        return client.request(prompt, params, prepared=shared, lora_request=lora, **options)

    def _own(self, plain: PlainRequest, most: int) -> SamplingParams:
        params: SamplingParams = plain.request.to_sampling_params(
            most, self._handler.default_sampling_params
        )
        return params

    def _shared(self, client: GatedClient, plain: PlainRequest, most: int) -> SamplingParams:
        """Complete parameters, which requests of equal fields share."""
        key = (most, plain.sampled)
        if (kept := self._kept.get(key)) is not None:
            return kept
        if len(self._kept) >= _MOST_KEPT:
            self._kept.clear()
        engine = client.engine
        assert isinstance(engine, FastEngine)
        made = self._kept[key] = engine.complete(self._own(plain, most))
        return made
