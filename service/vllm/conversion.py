"""Conversion between the service and vLLM: parameters and adapters in, outputs and errors out."""

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

from vllm.exceptions import VLLMClientError, VLLMValidationError
from vllm.lora.request import LoRARequest
from vllm.sampling_params import RequestOutputKind, SamplingParams, StructuredOutputsParams
from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

from service.engine.contract import Adapter, Job, Output, Part, Sampling, Structure
from service.errors import EngineDead, InvalidRequest, ServiceError
from service.vllm.patches.mask_budget import DEAD_END, SECONDS, TOO_DEAR, expect

USES = ("calls vllm.sampling_params:SamplingParams.from_optional",)

_FIELDS = {each.name for each in fields(Sampling)}
_RULE = re.compile(r"`?([a-z_]+)`? (must|cannot) ")
_TOO_LONG = ("input_tokens", "input_text")
"""Parameters in vLLM's errors for a prompt that does not fit the model's context; no real
fields."""


def explain(error: Exception) -> ServiceError | None:
    """The service's error for an error that vLLM raised; None for an unknown one."""
    if isinstance(error, ServiceError):
        return None
    if isinstance(error, EngineDeadError):
        return EngineDead.midway()
    if isinstance(error, VLLMValidationError):
        return invalid(str(error.args[0]), error.parameter)
    if isinstance(error, EngineGenerateError) and isinstance(error.__cause__, ValueError):
        return invalid(str(error.__cause__), None)
    if isinstance(error, VLLMClientError | ValueError):
        return invalid(str(error), None)
    return None


@contextmanager
def explained() -> Iterator[None]:
    """Raise the service's errors for those that vLLM raises in this block."""
    try:
        yield
    except Exception as error:
        known = explain(error)
        if known is None:
            raise
        raise known from error


def invalid(message: str, parameter: str | None) -> InvalidRequest:
    """The error of a request that vLLM refuses; a prompt that does not fit has OpenAI's code."""
    if parameter in _TOO_LONG:
        return InvalidRequest(message, code="context_length_exceeded")
    return InvalidRequest(message, param=parameter or _named(message))


def _named(message: str) -> str | None:
    """The field at the start of a message such as vLLM's `top_k must be ...`; None without one."""
    found = _RULE.match(message)
    return found[1] if found and found[1] in _FIELDS else None


_LISTS = ("stop", "stop_token_ids", "bad_words")
_SAME = {field.name for field in fields(Sampling)} - {*_LISTS, "structure", "allowed_token_ids"}


@dataclass(frozen=True, slots=True)
class Compiled:
    """A compiled structure; computing its slowest mask took `seconds`.

    `unenforced` are the keywords of the schema that the structure does not enforce, each with its
    path.
    """

    params: StructuredOutputsParams
    seconds: float
    unenforced: tuple[str, ...] = ()


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


def structured_outputs(structure: Structure) -> StructuredOutputsParams:
    """A structure in vLLM's form; an engine-specific one is passed unchanged."""
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
    """An adapter in vLLM's form; None for the base model.

    vLLM identifies adapters by name, and hashes name and path into every cached block, so each
    version needs a name of its own.
    """
    if adapter is None:
        return None
    return LoRARequest(
        lora_name=adapter.engine_name, lora_int_id=adapter.engine_id, lora_path=adapter.path
    )


class OutputReader:
    """Reads the outputs of one run of a job.

    `adapter_requests` counts the requests that got their first token, by the adapter's engine id.
    """

    def __init__(self, job: Job, adapter_requests: Counter[int]) -> None:
        self.ended_early = False
        """True once this service ended the job early, which vLLM reports as an abort."""
        self._sampling = job.sampling
        self._adapter = job.adapter
        self._adapter_requests = adapter_requests
        self._told_prompt = False

    def read(self, output: Any) -> Output:
        """One of vLLM's outputs; raises as `checked`."""
        parts = [
            Part(
                each.index,
                each.text,
                each.token_ids,
                self.checked(each.finish_reason, each.stop_reason),
                each.stop_reason,
                each.logprobs,
            )
            for each in output.outputs
        ]
        self.count()
        return Output(
            parts,
            len(output.prompt_token_ids or ()),
            output.num_cached_tokens or 0,
            output.num_cache_creation_tokens,
            engine_wait(output.metrics),
            mask_seconds(output.kv_transfer_params),
            self._of_prompt(output.prompt_logprobs),
        )

    def _of_prompt(self, found: Any) -> Any:
        """The prompt's log-probabilities, once: vLLM repeats them for each sequence.

        They come with a sequence's first output; later ones have an empty list.
        """
        if not found or self._told_prompt:
            return None
        self._told_prompt = True
        return found

    def checked(self, reason: str | None, stop_reason: int | str | None) -> str | None:
        """Return the finish reason; raises InvalidRequest if the structure ended the job."""
        if reason == "error":
            _raise_for_structure(self._sampling, stop_reason)
            raise ServiceError()
        return "length" if reason == "abort" and self.ended_early else reason

    def count(self) -> None:
        """Count the request for its adapter, at most once."""
        if self._adapter is not None:
            self._adapter_requests[self._adapter.engine_id] += 1
            self._adapter = None


def engine_wait(stats: Any) -> float | None:
    """Seconds that the engine held a request before its first step, by vLLM's statistics."""
    return max(0.0, stats.scheduled_ts - stats.queued_ts) if stats else None


def mask_seconds(told: Any) -> float:
    """The time of slow masks that the engine reports with an output, in seconds; 0 if none."""
    return float(told[SECONDS]) if told and SECONDS in told else 0.0


def dead_end(after: str) -> InvalidRequest:
    """The error for a structure that no text can complete; `after` is an explanation to add."""
    return InvalidRequest(
        f"structured output: no text{after} can complete it; look for a part that always contains "
        "itself, or for characters that exclude all",
        code=DEAD_END,
    )


def _raise_for_structure(sampling: Sampling, reason: str | int | None) -> None:
    """Raise the error of a request that failed because of its structure.

    The engine takes any token where other fields rule out every token that the structure allows.
    """
    if sampling.structure is None:
        return
    if reason == TOO_DEAR:
        raise InvalidRequest(
            "structured output: finding the tokens that it allows next takes too long; alternatives"
            " that begin alike cost most",
            code=TOO_DEAR,
        )
    for name in ("allowed_token_ids", "bad_words"):
        if getattr(sampling, name):
            raise InvalidRequest(
                f"{name}: it rules out every token that the structured output allows next",
                param=name,
            )
    raise dead_end(" that begins as this answer did")
