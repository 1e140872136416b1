"""OpenAI's Responses, by vLLM's own handler."""

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from service.api.dependencies import TheContext, TheRuntime
from service.api.guarded import guard
from service.api.handlers import HandlersBody, surface_to_ask, taken_over
from service.api.json_body import JsonRoute
from service.api.sse import STREAMED, event_stream
from service.limits.responses import accept_response

router = APIRouter(route_class=JsonRoute, tags=["openai"])


@router.post("/v1/responses", responses=STREAMED)
async def responses(
    body: HandlersBody, request: Request, runtime: TheRuntime, context: TheContext
) -> Response:
    """Answer a conversation that comes whole with the request; nothing of it is kept."""
    read = await taken_over(accept_response, body, request, runtime)
    runtime.models.choose(read["model"], context).check_converses()
    await guard(lambda: read, runtime, context)
    answer = await surface_to_ask(runtime).responses.create(read)
    return JSONResponse(answer) if isinstance(answer, dict) else await event_stream(answer)
