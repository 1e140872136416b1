"""Fields of OpenAI's and vLLM's request bodies that are without effect, or refused for a reason.

tests/openai/test_fields.py compares them and the models with vLLM's own request models, so a field
that a new version brings is looked at before it is served.
"""

from service.openai.body import Rules

_ENGINE = "it is a parameter of the engine's operators"
_TEXT = "prompts and answers are text"
_BEAMS = "beam search holds the engine for many sequences; set n"

OPENAI = Rules(
    hints=frozenset(
        """metadata store safety_identifier prompt_cache_key prompt_cache_retention
        verbosity prediction include_obfuscation cache_control annotations index""".split()
    ),
    no_ops={
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
    },
    refused={
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
    },
)
"""Of chat completions and completions."""
