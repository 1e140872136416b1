"""Routes of a language model in a service that has none: 404, with what is served."""

from collections.abc import Iterable
from typing import NoReturn

from fastapi import APIRouter
from fastapi.routing import APIRoute

from service.api.dependencies import TheContext, TheRuntime


def in_place_of(routers: Iterable[APIRouter]) -> APIRouter:
    """Routes at the paths of these routers."""
    router = APIRouter(include_in_schema=False)
    for each in routers:
        for route in each.routes:
            if isinstance(route, APIRoute):
                methods = list(route.methods)
                router.add_api_route(route.path, _refuse, methods=methods, response_model=None)
    return router


async def _refuse(runtime: TheRuntime, context: TheContext) -> NoReturn:
    raise runtime.models.no_language_model(context.tenant)
