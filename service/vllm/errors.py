"""vLLM's errors in the service's words."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields

from vllm.exceptions import VLLMClientError, VLLMValidationError
from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

from service.engine.protocol import Sampling
from service.errors import EngineDead, InvalidRequest, ServiceError

_FIELDS = {each.name for each in fields(Sampling)}
_RULE = re.compile(r"`?([a-z_]+)`? (must|cannot) ")
_TOO_LONG = ("input_tokens", "input_text")
"""vLLM's parameters, which are no fields, where a prompt does not fit the model's context."""


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
    """The field whose rule a message says, as in vLLM's `top_k must be ...`; None for no field."""
    found = _RULE.match(message)
    return found[1] if found and found[1] in _FIELDS else None
