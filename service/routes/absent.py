"""Routes of what a service does not have: 404, with what it serves or the setting to change."""

from collections.abc import Callable, Coroutine, Iterable
from typing import Any, NoReturn

from fastapi import APIRouter, Request
from fastapi.routing import APIRoute

from service.common.error_messages import quote_name
from service.errors import NotFound
from service.http.json_routes import TheContext, TheRuntime


def without_model(routers: Iterable[APIRouter]) -> APIRouter:
    """Routes at the paths of these routers, which need a language model."""
    return _in_place_of(routers, _no_model)


def switched_off(routers: Iterable[APIRouter], setting: str) -> APIRouter:
    """Routes at the paths of these routers, which a setting turns on."""

    async def refuse(request: Request) -> NoReturn:
        path = quote_name(request.scope["path"])
        raise NotFound(f"'{path}' is off in this service; the setting {setting} turns it on")

    return _in_place_of(routers, refuse)


def _in_place_of(
    routers: Iterable[APIRouter], refuse: Callable[..., Coroutine[Any, Any, NoReturn]]
) -> APIRouter:
    router = APIRouter(include_in_schema=False)
    for each in routers:
        for route in each.routes:
            if isinstance(route, APIRoute):
                methods = list(route.methods)
                router.add_api_route(route.path, refuse, methods=methods, response_model=None)
    return router


async def _no_model(runtime: TheRuntime, context: TheContext) -> NoReturn:
    raise runtime.models.no_language_model(context.tenant)
