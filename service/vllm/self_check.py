"""A check before the service is ready: each kind of work is done once, also by the public client.

What the fast client stands on is compared before it is taken. This check looks at what comes out,
so that a change which no field and no signature shows is seen before any user sees it.
"""

import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from service.context import internal_request
from service.engine.contract import Engine, Job, LabelQuery, Meter, Sink
from service.engine.protocol import LabelLogprobs, TextSink
from service.errors import ConfigurationError, EngineDead, ServiceError
from service.vllm.client import GatedClient
from service.vllm.generation import Last
from service.vllm.stock import StockEngine, stream_parameters, whole_parameters

_log = logging.getLogger(__name__)

_SECONDS = 60.0
_TOKENS = 6
_TRIES = 2
"""Times that two answers are compared: two steps of equal batches may round differently on GPUs."""
_CLOSE = 0.05
"""Difference of two log-probabilities that batches' rounding may cause."""
_PING = {"name": "ping", "description": "Say ping.", "parameters": {"type": "object"}}


class SelfCheckFailed(ConfigurationError):
    """Work that every client must do fails in this engine."""


class _Public:
    """An engine by its public client alone; has `run` and `logprobs` of the contract."""

    def __init__(self, engine: StockEngine) -> None:
        self._engine = engine

    async def run(self, job: Job, sink: Sink[Any], meter: Meter) -> None:
        await StockEngine.run(self._engine, job, sink, meter)

    async def logprobs(self, query: LabelQuery, meter: Meter) -> LabelLogprobs:
        return await StockEngine.logprobs(self._engine, query, meter)


async def differing(client: GatedClient, *, labels: bool = True) -> list[str]:
    """The kinds of work that the engine does otherwise than its public client, by name.

    Without `labels` the engine reads none. Raises SelfCheckFailed for work that the public client
    cannot do.
    """
    engine: Any = client.engine
    try:
        return await _differing(client, engine, _Public(engine), labels=labels)
    finally:
        client.engine = engine


async def _differing(
    client: GatedClient, engine: Engine, public: Any, *, labels: bool
) -> list[str]:
    text, _, _ = (await _asked("a stream", lambda: _streamed(client, public, ()))).partition("|")
    stops = [mark for mark in (text.strip()[1:2],) if mark]
    kinds: dict[str, Callable[[Any], Awaitable[Any]]] = {
        "a stream": lambda by: _streamed(client, by, ()),
        "a stop string": lambda by: _streamed(client, by, stops),
        "a whole answer": lambda by: _whole(client, by),
    }
    if labels:
        kinds["a label read"] = lambda by: _read(client, by)
    found = []
    for name, work in kinds.items():
        for _ in range(_TRIES):
            wanted = await _asked(name, partial(work, public))
            if await _does(name, partial(work, engine), wanted):
                break
        else:
            found.append(name)
    return found


async def _does(name: str, work: Callable[[], Awaitable[Any]], wanted: Any) -> bool:
    """True if work of the engine gives what is wanted; EngineDead if it ends the engine."""
    try:
        return _alike(await work(), wanted)
    except EngineDead:
        raise
    except Exception as error:
        _log.warning("self-check: %s failed: %s: %s", name, type(error).__name__, error)
        return False


async def _asked(name: str, work: Callable[[], Awaitable[Any]]) -> Any:
    try:
        return await work()
    except EngineDead as error:
        raise SelfCheckFailed(f"engine: self-check: {name} ends the engine") from error
    except Exception as error:
        raise SelfCheckFailed(
            f"engine: self-check: {name} fails: {type(error).__name__}: {error}"
        ) from error


async def check_calls(chat: Callable[[dict[str, Any]], Awaitable[Any]], model: str) -> None:
    """Ask for a call of a tool, where calls can be read; raises SelfCheckFailed if it fails.

    A model that writes much before its first call is only told of in the log.
    """
    body = {
        "model": model,
        "messages": [{"role": "user", "content": "ping"}],
        "tools": [{"type": "function", "function": _PING}],
        "tool_choice": "required",
        "max_tokens": 64,
    }
    async with internal_request("self-check", _SECONDS):
        answer = await _asked("a call of a tool", lambda: chat(body))
    (choice,) = answer["choices"]
    names = [call["function"]["name"] for call in choice["message"].get("tool_calls") or ()]
    if names[:1] == ["ping"]:
        return
    if choice["finish_reason"] == "length":
        _log.info("self-check: no call of a tool within 64 tokens")
        return
    raise SelfCheckFailed("engine: self-check: a call of a tool is not found in the answer")


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


async def _streamed(client: GatedClient, by: Engine, stops: Sequence[str]) -> str:
    texts = _Texts()
    params = stream_parameters(
        max_tokens=_TOKENS, temperature=0.0, ignore_eos=True, stop=list(stops)
    )
    await _run(client, by, params, texts)
    return f"{texts.text}|{texts.reason}"


async def _whole(client: GatedClient, by: Engine) -> str:
    last = Last()
    await _run(client, by, whole_parameters(_TOKENS), last)
    (said,) = last.output.outputs
    return f"{said.text}|{said.finish_reason}|{len(said.token_ids)}"


async def _run(client: GatedClient, by: Engine, params: Any, sink: Any) -> None:
    client.engine = by
    async with internal_request("self-check", _SECONDS):
        await client.push(client.request(_prompt(client), params), sink)


async def _read(client: GatedClient, by: Engine) -> Sequence[float]:
    client.engine = by
    async with internal_request("self-check", _SECONDS):
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


async def checked(name: str, work: Callable[[], Awaitable[Any]]) -> None:
    """Do one piece of work of an encoder; raises SelfCheckFailed, naming it, if it fails."""
    try:
        await work()
    except ServiceError as error:
        raise SelfCheckFailed(f"engine: self-check: {name} fails: {error}") from error
