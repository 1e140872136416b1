"""Dependencies of the routes."""

from typing import Annotated

from fastapi import Depends, Request

from service.context import RequestContext, current_context
from service.errors import NotReady
from service.fleet.registry import unknown_model
from service.fleet.version import ServedVersion
from service.runtime.parts import Runtime


# Coroutines, though they wait for nothing: FastAPI runs plain functions in a thread, which costs a
# request more than all else that happens here.
async def _runtime(request: Request) -> Runtime:
    runtime: Runtime | None = getattr(request.app.state, "runtime", None)
    if runtime is None:
        raise NotReady("The server is starting.", retry_after=5)
    return runtime


async def _context() -> RequestContext:
    return current_context()


TheRuntime = Annotated[Runtime, Depends(_runtime)]
TheContext = Annotated[RequestContext, Depends(_context)]


def begin_with(model: str, runtime: Runtime, context: RequestContext) -> ServedVersion | None:
    """Give a request its model, which it keeps to its end; the version, None for the base model.

    Raises NotFound for a name that is not served or not for this tenant, AdapterQuarantined for one
    that failed.
    """
    is_base, tenant = model == runtime.engine.model.name, context.tenant
    if not (tenant.may_use_base(model) if is_base else tenant.may_use_adapter(model)):
        raise unknown_model(model)
    version = runtime.adapters.acquire(model)
    context.model = model
    if version is not None:
        context.adapter = version.adapter
        context.at_end.callback(runtime.adapters.release, version)
    return version
