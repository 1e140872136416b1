"""A check before the service is ready: each kind of work is done once, also by the public client.

What the fast client stands on is compared before it is taken. This check looks at what comes out,
so that a change which no field and no signature shows is seen before any user sees it.
"""

import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from service.context import internal_request
from service.engine.protocol import TextSink
from service.errors import ConfigurationError, DeadlineExceeded, EngineDead, InvalidRequest
from service.settings import platform
from service.vllm.client import GatedClient
from service.vllm.generation import Last
from service.vllm.stock import StockEngine, stream_parameters, whole_parameters

_log = logging.getLogger(__name__)

_TOKENS, _CALL_TOKENS = 6, 64
_TRIES = 2
"""Times that two answers are compared: two steps of equal batches may round differently on GPUs."""
_CLOSE = 0.05
"""Difference of two log-probabilities that batches' rounding may cause."""
_PING = {"name": "ping", "description": "Say ping.", "parameters": {"type": "object"}}


class SelfCheckFailed(ConfigurationError):
    """Work that every client must do fails in this engine."""


async def differing(client: GatedClient, engine: StockEngine, *, labels: bool = True) -> list[str]:
    """The kinds of work that an engine does otherwise than its public client, by name.

    Without `labels` the engine reads none. Raises SelfCheckFailed for work that the public client
    cannot do.
    """
    kinds: dict[str, Callable[[], Awaitable[Any]]] = {
        "a stream": lambda: _streamed(client, ()),
        "a stop string": lambda: _streamed(client, stops),
        "a whole answer": lambda: _whole(client),
    }
    if labels:
        kinds["a label read"] = lambda: _read(client)
    found, stops = [], list[str]()
    try:
        for name, work in kinds.items():
            for _ in range(_TRIES):
                client.engine = engine.public
                wanted = await checked(name, work)
                client.engine = engine
                if engine is engine.public or await _does(name, work, wanted):
                    break
            else:
                found.append(name)
            if name == "a stream":
                stops += wanted.partition("|")[0].strip()[1:2]
    finally:
        client.engine = engine
    return found


async def _does(name: str, work: Callable[[], Awaitable[Any]], wanted: Any) -> bool:
    """True if work gives what is wanted; SelfCheckFailed if it ends the engine."""
    try:
        return _alike(await checked(name, work), wanted)
    except SelfCheckFailed as error:
        if isinstance(error.__cause__, EngineDead):
            raise
        _log.warning("%s", error)
        return False


async def checked(name: str, work: Callable[[], Awaitable[Any]]) -> Any:
    """What a piece of work gives, of a request of the service's own.

    Raises SelfCheckFailed, naming the work, if it fails.
    """
    try:
        async with internal_request("self-check", platform.installed().warm_up_s):
            return await work()
    except EngineDead as error:
        raise SelfCheckFailed(f"engine: self-check: {name} ends the engine") from error
    except Exception as error:
        raise SelfCheckFailed(
            f"engine: self-check: {name} fails: {type(error).__name__}: {error}"
        ) from error


async def check_calls(chat: Callable[[dict[str, Any]], Awaitable[Any]], model: str) -> None:
    """Ask for a call of a tool, where calls can be read; raises SelfCheckFailed if it fails.

    A model that writes much before its first call, is slow, or has no room for a tool is only told
    of in the log.
    """
    body = {
        "model": model,
        "messages": [{"role": "user", "content": "ping"}],
        "tools": [{"type": "function", "function": _PING}],
        "tool_choice": "required",
        "max_tokens": _CALL_TOKENS,
    }

    async def choice() -> Any:
        try:
            (answered,) = (await chat(body))["choices"]
        except DeadlineExceeded:
            return None
        except InvalidRequest as error:
            if error.code != "context_length_exceeded":
                raise
            return None
        return answered

    name = "a call of a tool"
    answer = await checked(name, choice)
    calls = answer and answer["message"].get("tool_calls")
    if calls and calls[0]["function"]["name"] == _PING["name"]:
        return
    if answer is not None and answer["finish_reason"] != "length":
        raise SelfCheckFailed(f"engine: self-check: {name} is not found in the answer")
    _log.info("self-check: no call of a tool in time, or within %d tokens", _CALL_TOKENS)


class _Texts:
    """Takes a stream's outputs; the texts of the steps between come without objects."""

    restart = None

    def __init__(self) -> None:
        self.text = ""
        self.reason: str | None = None

    def take(self, output: Any) -> TextSink | None:
        (said,) = output.outputs
        self.text += said.text
        self.reason = said.finish_reason
        return self

    def add(self, text: str, tokens: int) -> None:
        """Add a step's text."""
        self.text += text

    def release(self) -> None:
        """Hand on nothing: all texts are kept."""


async def _streamed(client: GatedClient, stops: Sequence[str]) -> str:
    texts = _Texts()
    params = stream_parameters(
        max_tokens=_TOKENS, temperature=0.0, ignore_eos=True, stop=list(stops)
    )
    await client.push(client.request(_prompt(client), params), texts)
    return f"{texts.text}|{texts.reason}"


async def _whole(client: GatedClient) -> str:
    last = Last()
    await client.push(client.request(_prompt(client), whole_parameters(_TOKENS)), last)
    (said,) = last.output.outputs
    return f"{said.text}|{said.finish_reason}|{len(said.token_ids)}"


async def _read(client: GatedClient) -> Sequence[float]:
    prompt = _prompt(client)["prompt_token_ids"]
    return (await client.read(prompt, (0, 1), None)).logprobs


def _prompt(client: GatedClient) -> Any:
    (prompt,) = client.renderer.render_cmpl([{"prompt": "Hello"}])
    return prompt


def _alike(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, str):
        return bool(found == wanted)
    return len(found) == len(wanted) and all(
        math.isclose(one, other, abs_tol=_CLOSE) for one, other in zip(found, wanted, strict=True)
    )
