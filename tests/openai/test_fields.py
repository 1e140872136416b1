"""The fields of our models and of vLLM's: each is served, without effect, or refused."""

from typing import Any

import jsonschema
import pytest
from pydantic import BaseModel
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.completion.protocol import CompletionRequest

from service.openai.body import Body, read_body
from service.openai.chat import ChatBody
from service.openai.completion import CompletionBody
from service.settings.limits import LimitSettings
from tests.openai.field_checks import (
    check_every_key_has_a_place_in,
    check_schema,
    check_unknown_keys,
)

ROUTES: dict[str, tuple[type[Body], type[BaseModel]]] = {
    "chat": (ChatBody, ChatCompletionRequest),
    "completion": (CompletionBody, CompletionRequest),
}
OUR_OWN = {"service_tier"}
"""Fields that not all of vLLM's models have."""


@pytest.mark.parametrize("route", ROUTES)
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
def test_fields_are_those_of_vllm_at_every_level(route: str) -> None:
    ours, vllms = ROUTES[route]
    check_every_key_has_a_place_in(vllms, ours)
    check_unknown_keys(vllms, ours)
    check_schema(ours)
    assert "if it is left out" in str(ours.model_json_schema())


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
