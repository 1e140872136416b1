"""vLLM's handlers as the routes of OpenAI's and Anthropic's APIs use them."""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Body, Request

from service.api.json_body import ParsedRequest, by_size
from service.context import current_context
from service.limits.fields import Accepted
from service.runtime.parts import Runtime
from service.vllm_engine.engine import VllmEngine
from service.vllm_engine.openai import OpenAISurface

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
    engine = runtime.base.engine
    assert isinstance(engine, VllmEngine)
    assert engine.openai is not None
    return engine.openai
