"""Guards before generation, for every route that generates."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from service.context import RequestContext
from service.guards.texts import Read, texts_of
from service.runtime.parts import Runtime

_TOKEN_BYTES = 4


async def guard_input(
    read: Callable[[], Mapping[str, Any]], runtime: Runtime, context: RequestContext
) -> None:
    """Have the tenant's guards judge the texts of a body; raises what `InputPolicy.check` raises.

    `read` gives the body, and is called only where a guard reads the tenant's texts.
    """
    policy = runtime.input_policy.of(context)
    if policy is not None:
        texts = [await _text(each, runtime) for each in texts_of(read())]
        await runtime.input_policy.check(texts, policy, context)


async def _text(given: Read, runtime: Runtime) -> str:
    if isinstance(given, str):
        return given
    engine = runtime.base.engine
    return await engine.prepare(_TOKEN_BYTES * len(given), partial(engine.decode, given))
