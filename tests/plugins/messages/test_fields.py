"""The fields of messages and of vLLM's models of them, at every level."""

import pytest
from pydantic import BaseModel
from vllm.entrypoints.anthropic.protocol import (
    AnthropicCountTokensRequest,
    AnthropicMessagesRequest,
)

from service.openai.body import Body
from service.plugins.messages.body import CountTokensBody, MessagesBody
from tests.openai.field_checks import (
    check_every_key_has_a_place_in,
    check_schema,
    check_unknown_keys,
)


@pytest.mark.parametrize(
    ("ours", "vllms"),
    [
        (MessagesBody, AnthropicMessagesRequest),
        (CountTokensBody, AnthropicCountTokensRequest),
    ],
)
def test_fields_are_those_of_vllm_at_every_level(ours: type[Body], vllms: type[BaseModel]) -> None:
    check_every_key_has_a_place_in(vllms, ours)
    check_unknown_keys(vllms, ours)
    check_schema(ours)
