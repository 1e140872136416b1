"""Fields of the bodies of OpenAI's Responses: read, without effect, or refused for a reason.

tests/engine/test_responses.py compares the tables with vLLM's request model and OpenAI's SDK.
"""

from collections.abc import Mapping
from typing import Any

from service.limits.openai_fields import HINTS as CHAT_HINTS
from service.limits.openai_fields import NO_OPS as CHAT_NO_OPS
from service.limits.openai_fields import REFUSED as CHAT_REFUSED
from service.limits.shape import Kinds, Shape

_TEXT = "prompts and answers are text"
_STATELESS = "no response is kept"

_LIKELY: Shape = dict.fromkeys(("token", "bytes", "logprob"))
_TOKEN: Shape = {**_LIKELY, "top_logprobs": _LIKELY}
_BLOCK: Shape = dict.fromkeys(("type", "text"))
_RESULTS = Kinds({"input_text": _BLOCK, "output_text": _BLOCK}, _TEXT)
_PARTS = Kinds(
    {
        "input_text": _BLOCK,
        "output_text": {**_BLOCK, "logprobs": _TOKEN},
        "refusal": dict.fromkeys(("type", "refusal")),
    },
    _TEXT,
)
_ITEMS = Kinds(
    {
        "message": {**dict.fromkeys(("type", "id", "role", "status")), "content": _PARTS},
        "function_call": dict.fromkeys("type id call_id name arguments status".split()),
        "function_call_output": {
            **dict.fromkeys(("type", "id", "call_id", "status")),
            "output": _RESULTS,
        },
        "reasoning": {
            **dict.fromkeys(("type", "id", "status", "encrypted_content")),
            "content": _BLOCK,
            "summary": _BLOCK,
        },
    },
    f"{_STATELESS}, and the service runs no tools of its own",
    usual="message",
)
_FUNCTIONS = "the service runs no tools of its own; describe yours as functions"

RESPONSE: Shape = {
    **dict.fromkeys(
        """model instructions max_output_tokens metadata parallel_tool_calls stream temperature
        top_p top_logprobs user include top_k min_p presence_penalty frequency_penalty
        repetition_penalty logit_bias seed stop stop_token_ids ignore_eos skip_special_tokens
        include_stop_str_in_output include_reasoning""".split()
    ),
    "input": _ITEMS,
    "reasoning": dict.fromkeys(("effort", "summary", "generate_summary")),
    "text": {
        "format": Kinds(
            {
                "text": {"type": None},
                "json_object": {"type": None},
                "json_schema": dict.fromkeys("type name description schema strict".split()),
            },
            "other formats are in structured_outputs",
        )
    },
    "tools": Kinds(
        {"function": dict.fromkeys("type name description parameters strict".split())},
        _FUNCTIONS,
    ),
    "tool_choice": Kinds({"function": dict.fromkeys(("type", "name"))}, _FUNCTIONS),
    "structured_outputs": dict.fromkeys(("json", "regex", "choice", "json_object")),
    "chat_template_kwargs": {},
}
"""The fields of a response; the settings say which `chat_template_kwargs` are read."""

HINTS = (CHAT_HINTS - {"metadata", "store"}) | frozenset(
    """client_metadata max_tool_calls phase prompt_cache_options stream_options""".split()
)
"""Keys that ask for nothing which changes an answer here; dropped at every level."""

NO_OPS: Mapping[str, tuple[Any, ...]] = {
    **CHAT_NO_OPS,
    "background": (False,),
    "enable_response_messages": (False,),
    "include": ([],),
    "n": (1,),
    "previous_input_messages": ([],),
    "spaces_between_special_tokens": (True,),
    "store": (False,),
    "truncation": ("disabled", "auto"),
}
"""Values with which a field asks for what happens without it; the field is dropped then."""

REFUSED: Mapping[str, str] = {
    **CHAT_REFUSED,
    "background": f"{_STATELESS} to be fetched later",
    "background_options": f"{_STATELESS} to be fetched later",
    "context_management": "send what shall be read",
    "conversation": "no conversation is kept; send all of its items as input",
    "enable_response_messages": "call /v1/tokenize for what the model reads",
    "image": _TEXT,
    "logprobs": "set include to ['message.output_text.logprobs'], and top_logprobs",
    "max_completion_tokens": "set max_output_tokens",
    "max_tokens": "set max_output_tokens",
    "messages": "set input",
    "moderation": "call /v1/moderations, where guards are configured",
    "n": "a request has one response",
    "previous_input_messages": "send all items as input",
    "previous_response_id": f"{_STATELESS}; send its items, and those before it, as input",
    "prompt": "no prompt is kept; set instructions and input",
    "reasoning_effort": "set reasoning.effort",
    "response_format": "set text.format",
    "spaces_between_special_tokens": "set skip_special_tokens",
    "store": _STATELESS,
    "truncation": "an input that does not fit is refused",
}
"""Known fields that are not served, each with the reason or with what to use instead."""
