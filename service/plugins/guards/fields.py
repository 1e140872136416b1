"""The request fields that input guards read, and why they do not read other fields."""

from collections.abc import Mapping

GUARDED = (
    "/v1/generate",
    "/v1/completions",
    "/v1/chat/completions",
    "/v1/responses",
    "/v1/messages",
    "/v1/classify",
    "/v1/decisions",
    "/v1/systemone",
)
"""The routes whose bodies input guards read."""

_ENCODER = "an encoder writes no text"
_RUNS_NONE = "no model reads it"
_LINES = "each line is read as a request of its own"
UNGUARDED: Mapping[str, str] = {
    **dict.fromkeys(("/v1/embeddings", "/embed", "/v1/rerank", "/v2/rerank", "/rerank"), _ENCODER),
    **dict.fromkeys(("/v1/score", "/predict"), _ENCODER),
    **dict.fromkeys(("/v1/files", "/v1/batches", "/v1/batches/{batch_id}/cancel"), _LINES),
    **dict.fromkeys(("/v1/tokenize", "/tokenize", "/v1/detokenize", "/detokenize"), _RUNS_NONE),
    **dict.fromkeys(("/v1/messages/count_tokens", "/v1/feedback"), _RUNS_NONE),
    "/v1/responses/input_tokens": _RUNS_NONE,
    **dict.fromkeys(("/v1/chat/completions/render", "/v1/completions/render"), _RUNS_NONE),
    **dict.fromkeys(("/v1/responses/render", "/v1/messages/render"), _RUNS_NONE),
    "/v1/moderations": "guards are asked here",
}
"""The other routes that take a body, each with the reason why no guard reads it."""

READ: Mapping[str, str] = {
    "prompt": "each prompt; token ids as their text",
    "suffix": "its text",
    "messages": "each message: texts, thoughts, calls with their names and arguments, results",
    "input": "each text or item, as a message",
    "state": "its text; JSON as it is written",
    "instructions": "its text",
    "system": "each text",
    "tools": "each tool: its name, its description, and the texts of its schema",
    "documents": "each document, with its keys",
    "chat_template_kwargs": "texts in it",
    "instruction": "its text",
    "template": "its text",
    "candidate_labels": "all labels as one text",
    "questions": "each question: its instructions, and its answers with their descriptions",
    "response_format": "the texts of its structure, as one",
    "structured_outputs": "the texts of its structure, as one",
    "text": "the texts of its `format`, as one",
    "output_config": "the texts of its `format`, as one",
}
"""Fields that guards read, in this order, each with how it is split into texts."""

STRUCTURES = ("response_format", "structured_outputs", "text", "output_config")

NUMBER = "a number or a switch"
_WORD = "one of a few words"
_IDS = "tokens that an answer may hold or not, in no order"
_ENDS = "is compared with the answer, and the model does not read it"
_NEVER = "never reaches the model"

_UNREAD: Mapping[str, str] = {
    NUMBER: """max_tokens max_completion_tokens max_output_tokens min_tokens n temperature top_p
        top_k min_p seed presence_penalty frequency_penalty repetition_penalty stream stream_options
        ignore_eos skip_special_tokens spaces_between_special_tokens include_stop_str_in_output
        return_prompt_text return_token_ids return_tokens_as_token_ids add_special_tokens
        truncate_prompt_tokens
        prompt_logprobs logprobs top_logprobs parallel_tool_calls include_reasoning echo
        continue_final_message add_generation_prompt confidence min_confidence agreement timeout_ms
        multi_label calibrate threshold truncate""",
    _WORD: """service_tier truncation_side reasoning_effort reasoning thinking include
        output_config.effort asking""",
    _IDS: "stop_token_ids allowed_token_ids logit_bias",
    _ENDS: "stop stop_sequences bad_words",
    _NEVER: """model user metadata safety_identifier prompt_cache_key prompt_cache_options
        cache_salt priority""",
    "the name of one of `tools`": "tool_choice",
    "encoders alone take it, which write no text": "hypothesis_template",
}
UNREAD: Mapping[str, str] = {
    name: reason for reason, names in _UNREAD.items() for name in names.split()
}
"""Fields that are not read, with the reason."""

UNREAD_WITHIN: Mapping[str, str] = {
    "type": _WORD,
    "status": _NEVER,
    "signature": _NEVER,
    "encrypted_content": _NEVER,
    "data": _NEVER,
    "logprobs": _NEVER,
}
"""Keys within messages, items and tools that are not read; documents are read with all keys."""
