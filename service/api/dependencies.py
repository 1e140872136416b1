"""Dependencies of the routes."""

from typing import Annotated

from fastapi import Depends, Request

from service.context import RequestContext, current_context
from service.runtime.parts import Runtime


# Coroutines, though they wait for nothing: FastAPI runs plain functions in a thread, which costs a
# request more than all else that happens here.
async def _runtime(request: Request) -> Runtime:
    runtime: Runtime = request.app.state.runtime
    return runtime


async def _context() -> RequestContext:
    return current_context()


TheRuntime = Annotated[Runtime, Depends(_runtime)]
TheContext = Annotated[RequestContext, Depends(_context)]
