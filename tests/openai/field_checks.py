"""Checks of a body's fields, at every level, against those of vLLM's model of it."""

import json

import pytest
from pydantic import BaseModel

from service.errors import UnsupportedFeature
from service.openai.body import Body, Kinds, Shape, clean_body, shape_of
from service.settings.limits import LimitSettings
from tests.openai.schema_places import UNKNOWN, Place, places

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


def check_every_key_has_a_place_in(vllms: type[BaseModel], ours: type[Body]) -> None:
    """vLLM reads every key that we read within the fields."""
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


def check_unknown_keys(vllms: type[BaseModel], ours: type[Body]) -> None:
    """An unknown key is refused by name in every object that vLLM reads."""
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


def check_schema(ours: type[Body]) -> None:
    """The JSON schema has every field with its description, and defaults in words.

    Typed clients need not send a field whose default is told so.
    """
    schema = ours.model_json_schema()
    assert schema["properties"].keys() == ours.model_fields.keys()
    assert all(each.get("description") for each in schema["properties"].values())
    assert "additionalProperties" not in schema  # hints are taken
    assert UNKNOWN not in json.dumps(schema)
    assert not [name for name, field in schema["properties"].items() if "default" in field]
