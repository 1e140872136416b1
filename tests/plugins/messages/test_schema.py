"""The routes of messages against their own OpenAPI schema, with generated bodies."""

from typing import Any

import pytest

from tests.live_service import LiveService
from tests.routes.test_schema import check_route

FITTING: dict[str, dict[str, Any]] = {
    "/v1/messages": {
        **{"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4, "system": "Be short."},
        **{"stop_sequences": ["x"], "thinking": None, "output_config": None, "tools": None},
        **{"tool_choice": None, "chat_template_kwargs": None, "temperature": 0.5},
    },
    "/v1/messages/count_tokens": {
        **{"messages": [{"role": "user", "content": "Hi"}], "system": None, "thinking": None},
        **{"output_config": None, "tools": None, "tool_choice": None},
        **{"chat_template_kwargs": None},
    },
}


@pytest.mark.parametrize("path", FITTING)
def test_a_route_does_what_its_schema_says(service: LiveService, path: str) -> None:
    check_route(service, path, FITTING[path])
