"""A check before the service is ready: each kind of work is done once, also by the public client.

What the fast client stands on is compared before it is taken. This check looks at what comes out,
so that a change which no field and no signature shows is seen before any user sees it.
"""

import itertools
import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from service.context import internal_request
from service.engine.chats import Chat
from service.engine.contract import Job, LabelQuery
from service.engine.protocol import Sampling
from service.errors import ConfigurationError, DeadlineExceeded, EngineDead, InvalidRequest
from service.generation.conversation import Choice, Conversation
from service.generation.fold import Fold
from service.generation.served_model import ServedModel
from service.settings import section as platform
from service.vllm.stock import StockEngine

_log = logging.getLogger(__name__)

_TOKENS, _CALL_TOKENS = 6, 64
_TRIES = 2
"""Times that two answers are compared: two steps of equal batches may round differently on GPUs."""
_CLOSE = 0.05
"""Difference of two log-probabilities that batches' rounding may cause."""
_PING = {"name": "ping", "description": "Say ping.", "parameters": {"type": "object"}}


class SelfCheckFailed(ConfigurationError):
    """Work that every client must do fails in this engine."""


async def differing(
    engine: StockEngine, prompt: Sequence[int], *, labels: bool = True
) -> list[str]:
    """The kinds of work that an engine does otherwise than its public client, by name.

    Without `labels` the engine reads none. Raises SelfCheckFailed for work that the public client
    cannot do.
    """
    asked = _Asked(prompt)
    kinds: dict[str, Callable[[StockEngine], Awaitable[Any]]] = {
        "a stream": asked.streamed,
        "a stop string": lambda client: asked.streamed(client, stops),
        "a whole answer": asked.whole,
    }
    if labels:
        kinds["a label read"] = asked.read
    found, stops = [], list[str]()
    for name, work in kinds.items():
        for _ in range(_TRIES):
            wanted = await checked(name, partial(work, engine.public))
            if engine is engine.public or await _does(name, partial(work, engine), wanted):
                break
        else:
            found.append(name)
        if name == "a stream":
            stops += wanted.partition("|")[0].strip()[1:2]
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


async def check_calls(model: ServedModel) -> None:
    """Ask for a call of a tool, where calls can be read; raises SelfCheckFailed if it fails.

    A model that writes much before its first call, is slow, or has no room for a tool is only told
    of in the log.
    """
    asked = [{"role": "user", "content": "ping"}]
    chat = Chat(asked, tools=[{"type": "function", "function": _PING}], tool_choice="required")
    sampling = Sampling(max_tokens=_CALL_TOKENS)

    async def choice() -> Choice | None:
        try:
            conversation = await Conversation.prepare(model, chat, sampling, None)
            (answered,), _ = await conversation.whole()
        except DeadlineExceeded:
            return None
        except InvalidRequest as error:
            if error.code != "context_length_exceeded":
                raise
            return None
        return answered

    name = "a call of a tool"
    answer: Choice | None = await checked(name, choice)
    if answer is not None and answer.said.calls and answer.said.calls[0].name == _PING["name"]:
        return
    if answer is not None and answer.finish_reason != "length":
        raise SelfCheckFailed(f"engine: self-check: {name} is not found in the answer")
    _log.info("self-check: no call of a tool in time, or within %d tokens", _CALL_TOKENS)


class _Asked:
    """The work that both clients do, on one prompt."""

    def __init__(self, prompt: Sequence[int]) -> None:
        self._prompt = list(prompt)
        self._serial = itertools.count()

    async def streamed(self, client: StockEngine, stops: Sequence[str] = ()) -> str:
        """The text of a stream, whose steps between the first and the last come as texts."""
        fold = await self._folded(client, Fold(), stops)
        (said,) = fold.whole()
        return f"{said.text}|{said.finish_reason}|{fold.tokens}"

    async def whole(self, client: StockEngine) -> str:
        """The text and the tokens of an answer, each step with its tokens."""
        (said,) = (await self._folded(client, Fold(details=True))).whole()
        return f"{said.text}|{said.finish_reason}|{list(said.token_ids)}"

    async def read(self, client: StockEngine) -> Sequence[float]:
        """The log-probabilities of two labels."""
        query = LabelQuery(self._prompt, (0, 1), id=self._name(), cache_salt="self-check")
        return (await client.logprobs(query)).logprobs

    async def _folded(self, client: StockEngine, fold: Fold, stops: Sequence[str] = ()) -> Fold:
        sampling = Sampling(max_tokens=_TOKENS, temperature=0.0, ignore_eos=True, stop=tuple(stops))
        job = Job(self._prompt, sampling, id=self._name(), cache_salt="self-check")
        await client.run(job, fold)
        return fold

    def _name(self) -> str:
        return f"self-check-{next(self._serial)}"


def _alike(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, str):
        return bool(found == wanted)
    return len(found) == len(wanted) and all(
        math.isclose(one, other, abs_tol=_CLOSE) for one, other in zip(found, wanted, strict=True)
    )
