"""Requests to vLLM's handlers and their answers, with errors in the service's words."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Collection
from contextlib import aclosing
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from vllm.entrypoints.serve.engine.protocol import ErrorResponse

from service.context import current_context
from service.errors import InvalidRequest, NotFound, ServiceError, UnsupportedFeature
from service.quoting import problems_in
from service.vllm.client import noted_generations
from service.vllm.errors import explain, invalid

Request = TypeVar("Request", bound=BaseModel)
Item = TypeVar("Item")


def parse(kind: type[Request], body: dict[str, Any], *, stops: str | None = "stop") -> Request:
    """A request of vLLM's from a body that was checked; raises InvalidRequest.

    `stops` is the field of stop strings, if there is one: vLLM's models would take no more than 4.
    """
    shown = {name: value for name, value in body.items() if name != stops}
    try:
        request = kind.model_validate(shown)
    except ValidationError as error:
        problem = problems_in(shown, error.errors(include_url=False))[0]
        field = problem.field
        message = f"{field or 'body'}: {problem.reason}"
        raise InvalidRequest(message[:400], param=field or None) from None
    except (AttributeError, KeyError, TypeError) as error:
        # Raised by a validator of vLLM's that relied on a field it should have checked.
        raise InvalidRequest(f"body: cannot be read: {error}"[:400]) from None
    except Exception as error:
        raise explain(error) or error from None
    if stops is not None:
        setattr(request, stops, body.get(stops, []))
    return request


def lacking(kind: type[BaseModel], body: Collection[str], served: Collection[str]) -> list[str]:
    """The fields of a body that the service serves and vLLM's model does not have.

    An older one would pass over them without a word.
    """
    return [name for name in body if name in served and name not in kind.model_fields]


def check_fields(kind: type[BaseModel], body: Collection[str], served: Collection[str]) -> None:
    """Raise UnsupportedFeature for the first field that is `lacking`."""
    for name in lacking(kind, body, served):
        raise UnsupportedFeature(f"{name}: this version of vLLM does not have it", param=name)


async def answered(call: Awaitable[Any]) -> Any:
    """The answer of a handler; raises ServiceError where vLLM answers with an error.

    Where the task was cancelled, vLLM answers with an error, too: the cancellation goes on.
    """
    context = current_context()
    try:
        with noted_generations():
            answer = await call
    except Exception as error:
        raise context.stream_failure or explain(error) or error from error
    if isinstance(answer, ErrorResponse):
        if (task := asyncio.current_task()) is not None and task.cancelling():
            raise asyncio.CancelledError
        raise context.stream_failure or error_of(answer.error.model_dump())
    return answer


async def streamed(stream: AsyncGenerator[Item, None]) -> AsyncGenerator[Item, None]:
    """The items of a handler's stream; raises the ServiceError with which the gate ended it."""
    context = current_context()
    async with aclosing(stream):
        try:
            async for item in stream:
                if context.stream_failure:
                    raise context.stream_failure
                yield item
        except Exception as error:
            raise context.stream_failure or explain(error) or error from error


def error_of(error: dict[str, Any]) -> ServiceError:
    """The service's error for the body of one of vLLM's."""
    if error["code"] >= 500:
        return ServiceError()
    message, parameter = error["message"], error.get("param")
    if error["code"] == 404:
        return NotFound(message, param=parameter)
    return invalid(message, parameter)
