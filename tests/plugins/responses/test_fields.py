"""The fields of responses and of vLLM's model of them, at every level."""

from vllm.entrypoints.openai.responses.protocol import ResponsesRequest

from service.plugins.responses.body import ResponseBody
from tests.openai.field_checks import (
    check_every_key_has_a_place_in,
    check_schema,
    check_unknown_keys,
)


def test_fields_are_those_of_vllm_at_every_level() -> None:
    check_every_key_has_a_place_in(ResponsesRequest, ResponseBody)
    check_unknown_keys(ResponsesRequest, ResponseBody)
    check_schema(ResponseBody)
