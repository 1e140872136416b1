"""Names of vLLM's arguments that the configuration may set; any other is refused by name."""

from collections.abc import Collection, Iterable

from service.errors import ConfigurationError
from service.quoting import nearest

_REPLICAS = "one engine serves one replica: run more replicas behind a Service or proxy"
_EVERY_TOKEN = "classification reads log-probabilities, which vLLM loses beside drafted tokens"
REFUSED = {
    "model": "set `model.path`",
    "model_tag": "set `model.path`",
    "served_model_name": "set `model.name`",
    "lora_modules": "list them under `adapters`",
    "otlp_traces_endpoint": "set `tracing.endpoint`",
    "log_level": "set `log.level`",
    "host": "set `http.host`",
    "port": "set `http.port`",
    "uds": "set `http.host` and `http.port`",
    "api_key": "keys belong to the gate",
    "trust_remote_code": "code from a model folder is never run",
    "trust_request_chat_template": "templates from requests are never run",
    "enable_log_requests": "prompts are never logged",
    "enable_log_outputs": "completions are never logged",
    "max_num_queued_reqs": "set `gate.max_queued`",
    "max_num_queued_tokens": "set `gate.max_queued`",
    "api_server_count": "one process serves one replica",
    "headless": "one process serves one replica",
    "config": "write the arguments under `engine`",
    "grpc": "only HTTP is served",
    "grpc_port": "only HTTP is served",
    "middleware": "the service has its own",
    "worker_extension_cls": "the service has its own",
    "root_path": "only `/` is served",
    "allowed_origins": "set `http.cors_origins`",
    "default_chat_template_kwargs": "set `model.chat_template_kwargs`",
    "disable_log_stats": "the watchdog counts the engine's steps by them",
    "trust_request_mm_kwargs": "requests are text",
    "tool_server": "tools are called by the client",
    "data_parallel_size": _REPLICAS,
    "data_parallel_size_local": _REPLICAS,
    "data_parallel_rank": _REPLICAS,
    "data_parallel_start_rank": _REPLICAS,
    "data_parallel_address": _REPLICAS,
    "data_parallel_rpc_port": _REPLICAS,
    "data_parallel_backend": _REPLICAS,
    "data_parallel_hybrid_lb": _REPLICAS,
    "data_parallel_external_lb": _REPLICAS,
    "data_parallel_multi_port_external_lb": _REPLICAS,
    "logprobs_mode": "classification and confidence read the model's own log-probabilities",
    "speculative_config": _EVERY_TOKEN,
    "spec_method": _EVERY_TOKEN,
    "spec_model": _EVERY_TOKEN,
    "spec_tokens": _EVERY_TOKEN,
}
"""Arguments that would bypass the service, each with the key to set instead or the reason."""

HANDLERS = frozenset(
    """chat_template chat_template_content_format enable_auto_tool_choice enable_force_include_usage
    enable_per_request_metrics enable_prompt_tokens_details exclude_tools_when_tool_choice_none
    fingerprint_mode fingerprint_value log_error_stack response_role return_tokens_as_token_ids
    tool_call_parser tool_strict_level""".split()
)
"""Arguments of vLLM's server that its OpenAI handlers read; its other ones would have no effect."""


def check_names(
    names: Iterable[str], known: Collection[str], engine: Collection[str], tried: Collection[str]
) -> None:
    """Raise ConfigurationError for the first name that is not served.

    `known` are the names of vLLM's server, `engine` those of its engine, and `tried` those of the
    engines of the versions that this service was tested with: a new one may bypass the service.
    """
    for name in names:
        if name in REFUSED:
            raise ConfigurationError(f"engine.{name}: not accepted here; {REFUSED[name]}")
        if name not in known:
            raise ConfigurationError(f"engine.{name}: unknown vLLM argument{nearest(name, known)}")
        if name not in engine and name not in HANDLERS:
            raise ConfigurationError(
                f"engine.{name}: not accepted here; only vLLM's own server reads it"
            )
        if name in engine and name not in tried:
            raise ConfigurationError(
                f"engine.{name}: not accepted here; this version of vLLM has it, and none that the "
                "service was tested with"
            )
