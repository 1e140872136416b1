"""Requests that once crashed, blocked or exploited a vLLM server, by the number of the advisory."""

from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.served.server import Server

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
_MESSAGES = [{"role": "user", "content": "hi"}]
_SCHEMA_OF_NO_TYPE = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "x"}}}
_TOOL = {
    "type": "function",
    "function": {
        "name": "a",
        "parameters": {
            "type": "something",
            "properties": {"b": {"type": "string", "pattern": "[a-z"}},
        },
    },
}


@dataclass(frozen=True)
class Replay:
    """A request, a part of the refusal's message and its status, 400 unless given."""

    advisory: str
    what: str
    path: str
    change: dict[str, Any]
    message: str
    headers: dict[str, str] = field(default_factory=dict)
    status: int = 400

    def send(self, server: Server) -> httpx.Response:
        """Send the request; returns the answer."""
        prompt = {"messages": _MESSAGES} if self.path == CHAT else {"prompt": "hi"}
        body = {"model": server.model, "max_tokens": 1} | prompt | self.change
        return server.post(self.path, body, headers=self.headers)


REPLAYS = [
    Replay(
        "CVE-2024-8768", "an empty prompt", COMPLETIONS, {"prompt": ""}, "prompt: must not be empty"
    ),
    Replay(
        "CVE-2024-8939", "best_of without a bound", COMPLETIONS, {"best_of": 10**6}, "best_of: not"
    ),
    Replay(
        "CVE-2025-29770",
        "a decoding backend that keeps every grammar on disk",
        CHAT,
        {"guided_decoding_backend": "outlines", "guided_regex": "a"},
        "guided_decoding_backend: not served",
    ),
    Replay(
        "CVE-2025-48942",
        "an invalid JSON schema",
        CHAT,
        {"response_format": _SCHEMA_OF_NO_TYPE},
        "not a valid JSON schema",
    ),
    Replay(
        "CVE-2025-48943",
        "an invalid regular expression",
        CHAT,
        {"structured_outputs": {"regex": "foo**["}},
        "not a valid regular expression",
    ),
    Replay("CVE-2025-48944", "a tool of an unknown type", CHAT, {"tools": [_TOOL]}, "tools[0]"),
    Replay(
        "CVE-2025-48956",
        "a header of megabytes",
        CHAT,
        {},
        "headers: at most 65536 bytes",
        {"x-filler": "a" * 2**21},
        431,
    ),
    Replay(
        "CVE-2025-61620",
        "a chat template from the client",
        CHAT,
        {"chat_template": "{% for i in range(10**9) %}{% endfor %}"},
        "chat_template: not served",
    ),
    Replay(
        "CVE-2025-61620",
        "a chat template among the template's arguments",
        CHAT,
        {"chat_template_kwargs": {"chat_template": "{{ 1 }}"}},
        "chat_template_kwargs.chat_template: not a field",
    ),
    Replay(
        "CVE-2025-62426",
        "an argument that makes the template tokenise",
        CHAT,
        {"chat_template_kwargs": {"tokenize": True}},
        "chat_template_kwargs.tokenize: not a field",
    ),
    Replay(
        "CVE-2025-62164",
        "a pickled tensor as the prompt",
        COMPLETIONS,
        {"prompt": None, "prompt_embeds": "gAIugAI="},
        "prompt_embeds: not served",
    ),
    Replay(
        "CVE-2025-6242",
        "an image that the server is to fetch",
        CHAT,
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "image_url", "image_url": {"url": "http://127.0.0.1:1/a"}}
                    ],
                }
            ]
        },
        "messages[0].content[0].type",
    ),
    Replay("CVE-2026-34756", "n without a bound", CHAT, {"n": 10**6}, "n: must be 1..16"),
    Replay("CVE-2026-34756", "n without a bound", COMPLETIONS, {"n": 10**30}, "n: must be 1..16"),
]
