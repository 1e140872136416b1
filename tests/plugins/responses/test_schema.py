"""The routes of responses against their own OpenAPI schema, with generated bodies."""

from typing import Any

import pytest

from tests.live_service import LiveService
from tests.routes.test_schema import check_route

FITTING: dict[str, dict[str, Any]] = {
    "/v1/responses": {
        **{"input": "Hi", "max_output_tokens": 4, "temperature": 0.5, "stop": "x"},
        **{"structured_outputs": None, "text": None, "tools": None, "tool_choice": None},
        **{"reasoning": None, "include": None, "top_logprobs": 2, "logit_bias": {"7": 1}},
        **{"metadata": {"a": "b"}, "chat_template_kwargs": None},
    },
}


@pytest.mark.parametrize("path", FITTING)
def test_a_route_does_what_its_schema_says(service: LiveService, path: str) -> None:
    check_route(service, path, FITTING[path])
