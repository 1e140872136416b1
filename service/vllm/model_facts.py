"""What vLLM's configuration of a model says of its answers."""

from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from vllm.entrypoints.serve.utils.fingerprint import build_system_fingerprint

from service.engine.contract import AnswerOptions
from service.settings.tree import Settings


def answer_options(front: Any, arguments: Namespace) -> AnswerOptions:
    """The options for answers that vLLM's arguments set."""
    mode, value = arguments.fingerprint_mode, arguments.fingerprint_value
    return AnswerOptions(
        build_system_fingerprint(front.vllm_config, mode, value),
        cached_tokens=arguments.enable_prompt_tokens_details,
        usage_always=arguments.enable_force_include_usage,
        tokens_as_ids=arguments.return_tokens_as_token_ids,
    )


def sampling_defaults(config: Any, settings: Settings) -> Mapping[str, Any]:
    """Sampling parameters for requests that set none: the model's own, then the settings'."""
    chosen = settings.base.sampling.model_dump(exclude_none=True)
    return {**config.get_diff_sampling_param(), **chosen}


def most_new_tokens(config: Any) -> int | None:
    """The most tokens of an answer by the model's own configuration, as in vLLM."""
    if config.generation_config not in ("auto", "vllm"):
        most: int | None = config.get_diff_sampling_param().get("max_tokens")
        return most
    overriding: Mapping[str, Any] = config.override_generation_config
    return overriding.get("max_new_tokens")
