"""Dependencies of the routes."""

from typing import Annotated

from fastapi import Depends, Request

from service.batches.batches import Batches
from service.context import RequestContext, current_context
from service.errors import NotReady
from service.runtime.parts import Runtime


def runtime_of(request: Request) -> Runtime:
    """The running service's parts; raises NotReady before it has them."""
    runtime: Runtime | None = getattr(request.app.state, "runtime", None)
    if runtime is None:
        raise NotReady("The server is starting.", retry_after=5)
    return runtime


# Coroutines, though they await nothing: FastAPI runs plain functions in a thread, which would cost
# a request more than the rest of this module.
async def _runtime(request: Request) -> Runtime:
    return runtime_of(request)


TheRuntime = Annotated[Runtime, Depends(_runtime)]


async def _batches(runtime: TheRuntime) -> Batches:
    # Their routes are there only with a folder for them.
    assert runtime.batches is not None
    return runtime.batches


async def _context() -> RequestContext:
    return current_context()


TheBatches = Annotated[Batches, Depends(_batches)]
TheContext = Annotated[RequestContext, Depends(_context)]
