"""Routes that call their endpoint with its body and the request, and nothing between."""

from collections.abc import Callable
from inspect import signature
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.dependencies import runtime_of
from service.api.errors import explain_validation
from service.api.json_body import JsonRoute, ParsedRequest, by_size
from service.context import current_context
from service.openai.body import Body, read_body


def is_body(annotation: Any) -> bool:
    """True for a body of OpenAI's or Anthropic's APIs."""
    return isinstance(annotation, type) and issubclass(annotation, Body)


async def body_of(kind: type[Body], request: ParsedRequest) -> Body:
    """The body of a request, as `read_body`; the context is told of the fields it ignores."""
    runtime = runtime_of(request)
    limits, most = runtime.settings.limits, runtime.base.engine.model.max_model_len
    body, ignored = await by_size(request.size, read_body, kind, request.value, limits, most)
    current_context().ignored_fields = ignored
    return body


class DirectRoute(JsonRoute):
    """A `JsonRoute` to POST, whose endpoint takes `body` and `request` and returns a response.

    The body is checked as FastAPI does, by the same model, and its errors are the same. FastAPI
    would also solve dependencies and keep three exit stacks for each request, which takes a tenth
    of the time of a short answer; so the endpoint of such a route has no dependencies.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        assert signature(endpoint).parameters.keys() == {"body", "request"}
        annotation = signature(endpoint, eval_str=True).parameters["body"].annotation
        self._model = annotation if is_body(annotation) else None
        self.app = self._answer

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = await self.parsed(Request(scope, receive))
        if self._model is None:
            body = self._checked(request.value)
        else:
            body = await body_of(self._model, request)
        response = await self.endpoint(body=body, request=request)
        await response(scope, receive, send)

    def _checked(self, value: Any) -> Any:
        """The body as the endpoint takes it; raises RequestValidationError."""
        assert self.body_field is not None
        if value is None:
            missing = {"type": "missing", "loc": ("body",), "msg": "Field required", "input": None}
            raise RequestValidationError([missing])
        body, errors = self.body_field.validate(value, loc=("body",))
        if errors:
            raise RequestValidationError(errors, body=value)
        return body


class DirectRoutes:
    """Pure ASGI: calls the direct routes of an app past its router and handlers of exceptions.

    All other requests go on to them. A body that a direct route refuses raises InvalidRequest.
    """

    def __init__(self, app: ASGIApp, of: FastAPI) -> None:
        self._app = app
        # Middleware is made at the first request, when the app has all its routes.
        direct = (route for route in of.routes if isinstance(route, DirectRoute))
        self._routes = {route.path: route for route in direct}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        posts = scope["type"] == "http" and scope["method"] == "POST" and not scope["root_path"]
        route = self._routes.get(scope["path"]) if posts else None
        if route is None:
            await self._app(scope, receive, send)
            return
        scope.update({"route": route, "endpoint": route.endpoint, "path_params": {}})
        try:
            await route.app(scope, receive, send)
        except RequestValidationError as error:
            raise explain_validation(error) from error
