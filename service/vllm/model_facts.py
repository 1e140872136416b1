"""What vLLM's configuration of a model says of it and of its answers."""

from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from vllm.entrypoints.serve.utils.fingerprint import build_system_fingerprint

from service.engine.contract import AnswerOptions, ModelInfo
from service.settings.tree import Settings


def model_info(
    front: Any,
    arguments: Namespace,
    settings: Settings,
    digest: str,
    *,
    max_num_seqs: int,
    max_lora_rank: int,
    client: str,
    version: str,
    client_notes: tuple[str, ...],
    echoes: bool,
) -> ModelInfo:
    """The model as it is served; `front` has vLLM's configuration and renderer."""
    config = front.model_config
    return ModelInfo(
        settings.base.name,
        digest,
        config.max_model_len,
        max_num_seqs,
        max_lora_rank=max_lora_rank,
        max_token_chars=front.renderer.get_tokenizer().max_chars_per_token,
        client=client,
        vllm=version,
        client_notes=client_notes,
        sampling_defaults=_sampling_defaults(config, settings),
        most_new_tokens=_most_new_tokens(config),
        answers=_answer_options(front, arguments),
        echoes=echoes,
    )


def _answer_options(front: Any, arguments: Namespace) -> AnswerOptions:
    """The options for answers that vLLM's arguments set."""
    mode, value = arguments.fingerprint_mode, arguments.fingerprint_value
    return AnswerOptions(
        build_system_fingerprint(front.vllm_config, mode, value),
        cached_tokens=arguments.enable_prompt_tokens_details,
        usage_always=arguments.enable_force_include_usage,
        tokens_as_ids=arguments.return_tokens_as_token_ids,
    )


def _sampling_defaults(config: Any, settings: Settings) -> Mapping[str, Any]:
    """Sampling parameters for requests that set none: the model's own, then the settings'."""
    chosen = settings.base.sampling.model_dump(exclude_none=True)
    return {**config.get_diff_sampling_param(), **chosen}


def _most_new_tokens(config: Any) -> int | None:
    """The most tokens of an answer by the model's own configuration, as in vLLM."""
    if config.generation_config not in ("auto", "vllm"):
        most: int | None = config.get_diff_sampling_param().get("max_tokens")
        return most
    overriding: Mapping[str, Any] = config.override_generation_config
    return overriding.get("max_new_tokens")
