"""Keys deep in a body that vLLM's models would ignore, or hand to a chat template."""

import json
from typing import Any

import pytest
from pydantic import BaseModel
from vllm.entrypoints.anthropic.protocol import (
    AnthropicCountTokensRequest,
    AnthropicMessagesRequest,
)
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.completion.protocol import CompletionRequest
from vllm.entrypoints.openai.responses.protocol import ResponsesRequest

from service.errors import UnsupportedFeature
from service.openai.body import Body
from service.openai.chat_body import ChatBody
from service.openai.completion_body import CompletionBody
from service.openai.messages_body import CountTokensBody, MessagesBody
from service.openai.responses_body import ResponseBody
from service.openai.shape import Cleaning, Kinds, Shape, shape_of
from tests.engine.schema_places import UNKNOWN, Place, places

ROUTES: dict[str, tuple[type[BaseModel], type[Body]]] = {
    "chat": (ChatCompletionRequest, ChatBody),
    "completion": (CompletionRequest, CompletionBody),
    "response": (ResponsesRequest, ResponseBody),
    "message": (AnthropicMessagesRequest, MessagesBody),
    "count": (AnthropicCountTokensRequest, CountTokensBody),
}
FREE = {
    "documents[]",  # what the model's template reads
    "logit_bias",
    "messages[].content[].input",  # arguments of a call
    "metadata",
    "output_config.format.schema",  # schemas have checks of their own
    "response_format.json_schema.schema",
    "structured_outputs.json",
    "text.format.schema",
    "tools[].function.parameters",
    "tools[].input_schema",
    "tools[].parameters",
}
"""Objects whose keys are the client's own."""

OURS = {
    "messages.content.content.text",  # vLLM's model takes any object there
    "messages.content.content.type",
    "messages.reasoning_content",  # vLLM renames it
    "response_format.schema",  # llama.cpp's and huggingface_hub's, written as OpenAI's before vLLM
    "response_format.value",
    "tools.type",  # of Anthropic's, told apart before vLLM
}
"""Keys that are read without a place in vLLM's models."""


def cleaned(route: str, body: dict[str, Any], *, refuse: bool) -> tuple[Any, tuple[str, ...]]:
    _, kind = ROUTES[route]
    cleaning = Cleaning(kind.rules.hints, refuse=refuse)
    shape = {**shape_of(kind), "chat_template_kwargs": {}}  # the settings say which are read
    return cleaning.clean(body, shape), cleaning.ignored


def hinted(route: str, where: str) -> bool:
    """True where an object stands in a key that is dropped with all it holds."""
    hints = ROUTES[route][1].rules.hints
    return not hints.isdisjoint(where.replace("[]", "").split("."))


@pytest.mark.parametrize("route", ROUTES)
def test_an_unknown_key_is_refused_by_name_in_every_object_that_vllm_reads(route: str) -> None:
    met = {place.where for place in places(ROUTES[route][0]) if _refused(route, place)}
    assert len(met) > 5


def _refused(route: str, place: Place) -> bool:
    """True where an unknown key is refused, and dropped and named where the settings say so."""
    if place.where in FREE or hinted(route, place.where):
        return False
    with pytest.raises(UnsupportedFeature) as refused:
        cleaned(route, place.body, refuse=True)
    assert refused.value.param
    try:
        body, ignored = cleaned(route, place.body, refuse=False)
    except UnsupportedFeature:  # it stands in what is never served
        return True
    assert UNKNOWN not in json.dumps(body), place.where
    assert ignored, place.where
    return True


@pytest.mark.parametrize("route", ROUTES)
def test_every_key_that_is_read_has_a_place_in_vllms_model(route: str) -> None:
    model, kind = ROUTES[route]
    named = {
        f"{place.where}.{key}".replace("[]", "") for place in places(model) for key in place.keys
    }
    missing = {where for where in _read(shape_of(kind)) if "." in where} - named
    assert missing <= OURS, sorted(missing - OURS)


def _read(shape: Shape | Kinds, where: str = "") -> set[str]:
    """The places of all keys of a shape, without the numbers of lists."""
    if isinstance(shape, Kinds):
        return set().union(*(_read(each, where) for each in shape.shapes.values()))
    found = set()
    for key, inner in shape.items():
        place = f"{where}.{key}" if where else key
        found |= {place} if inner is None else {place} | _read(inner, place)
    return found
