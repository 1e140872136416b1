"""Fields of OpenAI's and vLLM's request bodies: read, without effect, or refused for a reason.

tests/engine/test_openai.py compares the tables with vLLM's own request models, so a field that a
new version brings is looked at before it is served.
"""

from collections.abc import Mapping
from typing import Any

from service.limits.shape import Kinds, Shape

_FORMAT: Shape = {
    "type": None,
    "json_schema": dict.fromkeys(("name", "description", "schema", "strict")),
    "schema": None,
    "value": None,
}
_COMMON: Shape = {
    **dict.fromkeys(
        """model max_tokens n temperature top_p top_k min_p seed stop stop_token_ids
        presence_penalty frequency_penalty repetition_penalty logit_bias stream min_tokens
        ignore_eos skip_special_tokens spaces_between_special_tokens include_stop_str_in_output
        bad_words allowed_token_ids user return_token_ids return_tokens_as_token_ids
        add_special_tokens truncate_prompt_tokens truncation_side prompt_logprobs""".split()
    ),
    "stream_options": dict.fromkeys(("include_usage", "continuous_usage_stats")),
    "response_format": _FORMAT,
    "structured_outputs": dict.fromkeys(("json", "regex", "choice", "json_object")),
}
_CALL: Shape = {"id": None, "type": None, "function": dict.fromkeys(("name", "arguments"))}
PARTS = Kinds(
    {"text": dict.fromkeys(("type", "text")), "refusal": dict.fromkeys(("type", "refusal"))},
    "prompts and answers are text",
)
"""The parts of a chat's messages that are read."""

_MESSAGE: Shape = {
    **dict.fromkeys("role name tool_call_id refusal".split()),
    **dict.fromkeys(("reasoning", "reasoning_content"), Kinds({}, "thoughts are text")),
    "content": PARTS,
    "tool_calls": _CALL,
}
_TOOL: Shape = {
    "type": None,
    "function": dict.fromkeys(("name", "description", "parameters", "strict")),
}

CHAT: Shape = {
    **_COMMON,
    **dict.fromkeys(
        """logprobs top_logprobs max_completion_tokens parallel_tool_calls reasoning_effort
        include_reasoning continue_final_message add_generation_prompt documents""".split()
    ),
    "messages": _MESSAGE,
    "tools": _TOOL,
    "tool_choice": {"type": None, "function": {"name": None}},
    "chat_template_kwargs": {},
}
"""The fields of a chat; the settings say which `chat_template_kwargs` are read."""

COMPLETION: Shape = {**_COMMON, **dict.fromkeys("prompt echo logprobs suffix".split())}
"""The fields of a completion."""

HINTS = frozenset(
    """metadata store service_tier safety_identifier prompt_cache_key prompt_cache_retention
    verbosity prediction include_obfuscation cache_control annotations index""".split()
)
"""Keys that ask for nothing which changes an answer here; dropped at every level."""

NO_OPS: Mapping[str, tuple[Any, ...]] = {
    "best_of": (1,),
    "early_stopping": (False,),
    "echo": (False,),
    "function_call": ("none",),
    "functions": ([],),
    "length_penalty": (1,),
    "logprob_token_ids": ([],),
    "media_io_kwargs": ({},),
    "mm_processor_kwargs": ({},),
    "modalities": (["text"],),
    "priority": (0,),
    "return_prompt_text": (False,),
    "return_token_offsets": (False,),
    "return_weight_versions": (False,),
    "stream_interval": (1,),
    "thinking_token_budget": (-1,),
    "tools": ([],),
    "use_beam_search": (False,),
    "vllm_xargs": ({},),
    "watermarking": (False,),
}
"""Values with which a field asks for what happens without it; the field is dropped then."""

_ENGINE = "it is a parameter of the engine's operators"
_TEXT = "prompts and answers are text"
_BEAMS = "beam search holds the engine for many sequences; set n"

REFUSED: Mapping[str, str] = {
    "audio": _TEXT,
    "best_of": "answers are not ranked; set n",
    "cache_salt": "each tenant has its own",
    "chat_template": "templates from requests are never run; set chat_template_kwargs",
    "early_stopping": _BEAMS,
    "ec_transfer_params": _ENGINE,
    "echo": "a chat does not repeat its messages",
    "function_call": "set tool_choice",
    "functions": "set tools",
    "guided_choice": "set structured_outputs.choice",
    "guided_decoding_backend": "structures have one compiler",
    "guided_grammar": "an ambiguous grammar takes seconds before each token",
    "guided_json": "set structured_outputs.json",
    "guided_regex": "set structured_outputs.regex",
    "guided_whitespace_pattern": "structures have one compiler",
    "kv_transfer_params": _ENGINE,
    "length_penalty": _BEAMS,
    "logprob_token_ids": "set logprobs, or call /v1/classify",
    "media_io_kwargs": _TEXT,
    "mm_payload": _TEXT,
    "mm_processor_kwargs": _TEXT,
    "modalities": _TEXT,
    "priority": "it is the tenant's, not the request's",
    "prompt_embeds": _TEXT,
    "repetition_detection": "set stop, max_tokens or repetition_penalty",
    "request_id": "send the header X-Request-Id",
    "return_mm_kwargs": _TEXT,
    "return_prompt_text": "call /v1/tokenize and /v1/detokenize",
    "return_token_offsets": "call /v1/tokenize and /v1/detokenize",
    "return_weight_versions": "a model's weights stay while it is served",
    "routed_experts_prompt_start": _ENGINE,
    "session_id": "requests are not bound to a session",
    "stream_interval": "a stream's parts are as long as the engine's steps",
    "thinking_token_budget": "set max_tokens, or reasoning_effort",
    "use_beam_search": _BEAMS,
    "vllm_xargs": _ENGINE,
    "watermarking": _ENGINE,
    "web_search_options": "the service searches nothing",
}
"""Known fields that are not served, each with the reason or with what to use instead."""
