"""Dependencies of the routes."""

from typing import Annotated

from fastapi import Depends, Request

from service.context import RequestContext, current_context
from service.errors import NotReady
from service.runtime.parts import Runtime


# Coroutines, though they await nothing: FastAPI runs plain functions in a thread, which would cost
# a request more than the rest of this module.
async def _runtime(request: Request) -> Runtime:
    runtime: Runtime | None = getattr(request.app.state, "runtime", None)
    if runtime is None:
        raise NotReady("The server is starting.", retry_after=5)
    return runtime


async def _context() -> RequestContext:
    return current_context()


TheRuntime = Annotated[Runtime, Depends(_runtime)]
TheContext = Annotated[RequestContext, Depends(_context)]
