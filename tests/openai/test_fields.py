"""The fields of our models and of vLLM's: each is served, without effect, or refused."""

import json
from typing import Any

import jsonschema
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
from service.openai.body import Body, Kinds, Shape, clean_body, read_body, shape_of
from service.openai.chat import ChatBody
from service.openai.completion import CompletionBody
from service.openai.messages_body import CountTokensBody, MessagesBody
from service.openai.responses_body import ResponseBody
from service.settings.limits import LimitSettings
from tests.openai.schema_places import UNKNOWN, Place, places

ROUTES: dict[str, tuple[type[Body], type[BaseModel]]] = {
    "chat": (ChatBody, ChatCompletionRequest),
    "completion": (CompletionBody, CompletionRequest),
    "response": (ResponseBody, ResponsesRequest),
    "message": (MessagesBody, AnthropicMessagesRequest),
    "count": (CountTokensBody, AnthropicCountTokensRequest),
}
OUR_OWN = {"service_tier"}
"""Fields that not all of vLLM's models have."""
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
OTHERS = {
    "messages.content.content.text",  # vLLM's model takes any object there
    "messages.content.content.type",
    "messages.reasoning_content",  # vLLM renames it
    "response_format.schema",  # llama.cpp's and huggingface_hub's
    "response_format.value",
    "tools.type",  # of Anthropic's, by which custom tools are told apart
}
"""Keys that are read without a place in vLLM's models."""


@pytest.mark.parametrize("route", ["chat", "completion"])
def test_every_field_of_vllms_model_is_served_or_without_effect_or_refused(route: str) -> None:
    ours, vllms = ROUTES[route]
    served, rules = ours.model_fields.keys() - OUR_OWN, ours.rules
    beside = rules.hints | rules.refused.keys()
    assert vllms.model_fields.keys() - OUR_OWN <= served | beside
    assert served <= vllms.model_fields.keys()
    assert not rules.hints & (served | rules.refused.keys())
    # A completion echoes its prompt; a chat does not.
    assert served & rules.refused.keys() <= {"echo", "return_prompt_text"}


@pytest.mark.parametrize("route", ROUTES)
def test_every_key_that_is_read_has_a_place_in_vllms_model(route: str) -> None:
    ours, vllms = ROUTES[route]
    named = {
        f"{place.where}.{key}".replace("[]", "") for place in places(vllms) for key in place.keys
    }
    missing = {where for where in _read(shape_of(ours)) if "." in where} - named
    assert missing <= OTHERS, sorted(missing - OTHERS)


def _read(shape: Shape | Kinds, where: str = "") -> set[str]:
    """The places of all keys of a shape, without the numbers of lists."""
    if isinstance(shape, Kinds):
        return set().union(*(_read(each, where) for each in shape.shapes.values()))
    found = set()
    for key, inner in shape.items():
        place = f"{where}.{key}" if where else key
        found |= {place} if inner is None else {place} | _read(inner, place)
    return found


@pytest.mark.parametrize("route", ROUTES)
def test_an_unknown_key_is_refused_by_name_in_every_object_that_vllm_reads(route: str) -> None:
    ours, vllms = ROUTES[route]
    met = [place for place in places(vllms) if not _is_free(ours, place.where)]
    assert len(met) > 5
    for place in met:
        _check(ours, place)


def _is_free(ours: type[Body], where: str) -> bool:
    parts = where.replace("[]", "").split(".")
    return where in FREE or not ours.rules.hints.isdisjoint(parts)


def _check(ours: type[Body], place: Place) -> None:
    """An unknown key is refused, and dropped and named where the settings say so."""
    body = {"model": "m"} | place.body
    with pytest.raises(UnsupportedFeature) as refused:
        clean_body(ours, body, LimitSettings())
    assert refused.value.param
    try:
        kept, ignored = clean_body(ours, body, LimitSettings(unknown_fields="ignore"))
    except UnsupportedFeature:  # it stands in what is never served
        return
    assert UNKNOWN not in json.dumps(kept), place.where
    assert ignored, place.where


@pytest.mark.parametrize("route", ROUTES)
def test_the_json_schema_has_every_field_with_its_description(route: str) -> None:
    ours, _ = ROUTES[route]
    schema = ours.model_json_schema()
    assert schema["properties"].keys() == ours.model_fields.keys()
    assert all(each.get("description") for each in schema["properties"].values())
    assert "additionalProperties" not in schema  # hints are taken
    assert UNKNOWN not in json.dumps(schema)


@pytest.mark.parametrize(
    ("route", "own"),
    [
        ("chat", {"messages": [{"role": "assistant", "content": None, "cache_control": {}}]}),
        ("completion", {"prompt": [[1]], "seed": None, "metadata": {"a": "b"}}),
    ],
)
def test_what_is_read_conforms_to_the_json_schema(route: str, own: dict[str, Any]) -> None:
    ours, _ = ROUTES[route]
    body = {"model": "m", "temperature": 1} | own
    read_body(ours, body, LimitSettings(), 2048)
    jsonschema.validate(body, ours.model_json_schema())


@pytest.mark.parametrize("body", [ChatBody, CompletionBody, ResponseBody, MessagesBody])
def test_a_default_is_told_in_words_so_that_typed_clients_need_not_send_it(
    body: type[Body],
) -> None:
    fields = body.model_json_schema()["properties"]
    assert not [name for name, field in fields.items() if "default" in field]
    assert "if it is left out" in str(fields)
