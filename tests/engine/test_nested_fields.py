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
from service.limits import anthropic_fields, openai_fields, responses_fields
from service.limits.fields import Accepted, Fields, take
from service.limits.shape import Kinds, Shape
from service.settings.limits import LimitSettings
from tests.engine.schema_places import UNKNOWN, Place, places

ROUTES: dict[str, tuple[type[BaseModel], Shape, Any]] = {
    "chat": (ChatCompletionRequest, openai_fields.CHAT, openai_fields),
    "completion": (CompletionRequest, openai_fields.COMPLETION, openai_fields),
    "response": (ResponsesRequest, responses_fields.RESPONSE, responses_fields),
    "message": (AnthropicMessagesRequest, anthropic_fields.MESSAGE, anthropic_fields),
    "count": (AnthropicCountTokensRequest, anthropic_fields.COUNT, anthropic_fields),
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


def asked(route: str, body: dict[str, Any], unknown: str) -> Accepted:
    _, shape, tables = ROUTES[route]
    fields = Fields(shape, tables.HINTS, tables.NO_OPS, tables.REFUSED)
    limits = LimitSettings.model_validate({"unknown_fields": unknown})
    return take(body, fields, limits)


def hinted(route: str, where: str) -> bool:
    """True where an object stands in a key that is dropped with all it holds."""
    return not ROUTES[route][2].HINTS.isdisjoint(where.replace("[]", "").split("."))


@pytest.mark.parametrize("route", ROUTES)
def test_an_unknown_key_is_refused_by_name_in_every_object_that_vllm_reads(route: str) -> None:
    met = {place.where for place in places(ROUTES[route][0]) if _refused(route, place)}
    assert len(met) > 5


def _refused(route: str, place: Place) -> bool:
    """True where an unknown key is refused, and dropped and named where the settings say so."""
    if place.where in FREE or hinted(route, place.where):
        return False
    with pytest.raises(UnsupportedFeature) as refused:
        asked(route, place.body, "refuse")
    assert refused.value.param
    try:
        accepted = asked(route, place.body, "ignore")
    except UnsupportedFeature:  # it stands in what is never served
        return True
    assert UNKNOWN not in json.dumps(accepted.body), place.where
    assert accepted.ignored, place.where
    return True


@pytest.mark.parametrize("route", ROUTES)
def test_every_key_that_is_read_has_a_place_in_vllms_model(route: str) -> None:
    model, shape, _ = ROUTES[route]
    named = {
        f"{place.where}.{key}".replace("[]", "") for place in places(model) for key in place.keys
    }
    missing = {where for where in _read(shape) if "." in where} - named
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
