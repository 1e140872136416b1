"""Requests as vLLM's engine takes them."""

import time
from collections.abc import Mapping, Sequence

from vllm.inputs import tokens_input
from vllm.lora.request import LoRARequest
from vllm.sampling_params import SamplingParams
from vllm.v1.engine import EngineCoreRequest
from vllm.v1.engine.async_llm import AsyncLLM

USES = (
    "fields of vllm.sampling_params:SamplingParams",
    "reads vllm.v1.engine.input_processor:InputProcessor._validate_model_inputs",
    "fields of vllm.v1.engine:EngineCoreRequest",
)
"""What of vLLM this module stands on (docs/vllm.md)."""

_ANY_PROMPT = tokens_input([0])


def completed(llm: AsyncLLM, params: SamplingParams) -> SamplingParams:
    """Parameters that vLLM has checked and completed for its engine, with a given `max_tokens`.

    Requests may share them, since nothing changes them later. Raises vLLM's errors.
    """
    request: EngineCoreRequest = llm.input_processor.process_inputs(
        "", _ANY_PROMPT, params, ("generate",)
    )
    return request.sampling_params


def build_engine_request(
    llm: AsyncLLM,
    name: str,
    prompt: Sequence[int],
    params: SamplingParams,
    *,
    lora: LoRARequest | None,
    salt: str,
    priority: int,
    trace_headers: Mapping[str, str] | None,
) -> EngineCoreRequest:
    """A request with completed parameters, under a name that no other has.

    Raises vLLM's errors for a prompt that is empty or too long.
    """
    llm.input_processor._validate_model_inputs(None, tokens_input(prompt))
    return EngineCoreRequest(
        request_id=name,
        prompt_token_ids=prompt,
        mm_features=None,
        sampling_params=params,
        pooling_params=None,
        arrival_time=time.time(),
        lora_request=lora,
        cache_salt=salt,
        data_parallel_rank=None,
        priority=priority,
        trace_headers=trace_headers,
        external_req_id=name,
    )
