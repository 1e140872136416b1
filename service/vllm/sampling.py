"""Sampling parameters and adapters as vLLM knows them."""

from dataclasses import dataclass, fields
from typing import Any

from vllm.lora.request import LoRARequest
from vllm.sampling_params import RequestOutputKind, SamplingParams, StructuredOutputsParams

from service.engine.protocol import Adapter, Sampling, Structure
from service.vllm.errors import explain
from service.vllm.patches.mask_budget import expect, is_long

USES = ("calls vllm.sampling_params:SamplingParams.from_optional",)
"""What of vLLM this module stands on (docs/vllm.md)."""

_LISTS = ("stop", "stop_token_ids", "bad_words")
_SAME = {field.name for field in fields(Sampling)} - {*_LISTS, "structure", "allowed_token_ids"}


@dataclass(frozen=True, slots=True)
class Compiled:
    """A structure that was compiled; its longest mask took so many seconds."""

    params: StructuredOutputsParams
    seconds: float


def sampling_params(sampling: Sampling) -> SamplingParams:
    """vLLM's parameters of a generation that comes in the engine's steps.

    Raises InvalidRequest for values that vLLM refuses.
    """
    allowed = sampling.allowed_token_ids
    try:
        params = SamplingParams.from_optional(
            **{name: getattr(sampling, name) for name in _SAME},
            **{name: list(getattr(sampling, name)) for name in _LISTS},
            allowed_token_ids=None if allowed is None else list(allowed),
            output_kind=RequestOutputKind.DELTA,
            skip_clone=True,
        )
    except Exception as error:
        raise explain(error) or error from error
    if sampling.structure is not None:
        compiled = sampling.structure.own
        if not isinstance(compiled, Compiled):  # the service's own, which is known to be cheap
            compiled = Compiled(structured_outputs(sampling.structure), 0.0)
        params.structured_outputs = compiled.params
        expect(params, compiled.seconds)
    return params


def is_dear(sampling: Sampling) -> bool:
    """True if the engine tells with each output how long its structure's masks took."""
    own = sampling.structure and sampling.structure.own
    return isinstance(own, Compiled) and is_long(own.seconds)


def structured_outputs(structure: Structure) -> StructuredOutputsParams:
    """A structure as vLLM knows it; one of vLLM's own kind is taken as it is."""
    if structure.own is not None:
        own: StructuredOutputsParams = structure.own
        return own
    schema: Any = structure.json_schema
    return StructuredOutputsParams(
        json=schema if schema is None or isinstance(schema, str) else dict(schema),
        regex=structure.regex,
        choice=None if structure.choice is None else list(structure.choice),
        json_object=structure.json_object or None,
    )


def lora_request(adapter: Adapter | None) -> LoRARequest | None:
    """An adapter as vLLM knows it; None for the base model.

    vLLM treats two requests with one adapter name as equal and hashes name and path into every
    cached block, so each version has its own name.
    """
    if adapter is None:
        return None
    return LoRARequest(
        lora_name=adapter.engine_name, lora_int_id=adapter.engine_id, lora_path=adapter.path
    )
