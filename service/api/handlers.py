"""vLLM's handlers as the routes of OpenAI's and Anthropic's APIs use them."""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Body, Request

from service.api.json_body import ParsedRequest, by_size
from service.context import current_context
from service.limits.fields import Accepted
from service.runtime.parts import Runtime
from service.vllm.engine import VllmEngine
from service.vllm.openai import OpenAISurface

HandlersBody = Annotated[
    dict[str, Any], Body(description="As in the API's reference; vLLM's handlers answer it.")
]


async def taken_over(
    accept: Callable[..., Accepted], body: dict[str, Any], request: Request, runtime: Runtime
) -> dict[str, Any]:
    """The fields that `accept` takes over of a body; the context is told of those it ignores."""
    assert isinstance(request, ParsedRequest)
    limits, most = runtime.settings.limits, runtime.base.engine.model.max_model_len
    accepted = await by_size(request.size, accept, body, limits=limits, context=most)
    current_context().ignored_fields = accepted.ignored
    return accepted.body


def surface(runtime: Runtime) -> OpenAISurface:
    """The handlers of a service whose engine is vLLM."""
    openai = _engine(runtime).openai
    assert openai is not None
    return openai


def surface_to_ask(runtime: Runtime) -> OpenAISurface:
    """The handlers, for a prompt of the current request; raises what `Gate.refuse_early` raises.

    So a request that has no chance costs no more than its checks.
    """
    _engine(runtime).client.refuse_early()
    return surface(runtime)


def _engine(runtime: Runtime) -> VllmEngine:
    engine = runtime.base.engine
    assert isinstance(engine, VllmEngine)
    return engine
