"""Adapters in engines that others run, by vLLM's routes that load and unload them."""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from service.engine.contract import Adapter, LabelQuery
from service.errors import ConfigurationError, EngineDead, InvalidRequest, ServiceError
from service.vllm.remote.http_client import Headers, HttpEngines, UnknownModel
from service.vllm.remote.wire import labels_of, read_body

_log = logging.getLogger(__name__)

_LOADED = "already been loaded"
"""Part of vLLM's refusal to load an adapter again."""
_COMPARED = LabelQuery(list(range(2, 34)), tuple(range(32)), cache_salt="adapters")
_CLOSE = 0.25
"""Difference of two engines' log-probabilities that rounding may cause."""
_ALLOW = "VLLM_ALLOW_RUNTIME_LORA_UPDATING"


class RemoteAdapters:
    """The adapters that this service has loaded into each engine.

    Several services share the engines, under names that hold an adapter's digest: one that is
    there already is the same, and one that another service unloads is loaded again when a request
    needs it.
    """

    def __init__(self, http: HttpEngines) -> None:
        self._http = http
        self._loaded: dict[int, Adapter] = {}
        self._again: dict[int, asyncio.Task[None]] = {}
        self._loads = 0

    @property
    def ids(self) -> Sequence[int]:
        """The engine ids of the loaded adapters."""
        return tuple(self._loaded)

    @property
    def loading(self) -> bool:
        """True while an adapter is being loaded."""
        return self._loads > 0

    async def load(self, adapter: Adapter, *, compare: bool) -> None:
        """Load an adapter into every engine that answers, and `compare` what they answer with it.

        Raises ConfigurationError if an engine refuses it or answers otherwise than the first,
        EngineDead if none can be reached.
        """
        self._loads += 1
        try:
            reached = await self._on_each(lambda *engine: self._load(adapter, *engine))
            if compare:
                await self._check_alike(adapter, reached)
        finally:
            self._loads -= 1
        self._loaded[adapter.engine_id] = adapter

    async def load_again(self, adapter: Adapter) -> None:
        """Load an adapter where it is missing, once for all requests that wait for it."""
        task = self._again.get(adapter.engine_id)
        if task is None:
            task = asyncio.ensure_future(self.load(adapter, compare=False))
            self._again[adapter.engine_id] = task
            task.add_done_callback(lambda _: self._again.pop(adapter.engine_id))
        try:
            await asyncio.shield(task)
        except ConfigurationError as error:
            _log.error("%s", error)
            raise ServiceError("The engines have lost this adapter.") from error

    async def unload(self, adapter: Adapter) -> None:
        """Unload an adapter from every engine that answers and has it."""
        self._loaded.pop(adapter.engine_id, None)
        body = {"lora_name": adapter.engine_name}

        async def unload(url: str, headers: Headers) -> None:
            try:
                await self._http.post("/v1/unload_lora_adapter", body, url, headers)
            except EngineDead:
                raise
            except ServiceError as error:  # it is not there
                _log.debug("adapter %s: not unloaded: %s", adapter.engine_name, error)

        await self._on_each(unload)

    async def resident(self) -> frozenset[int]:
        """The engine ids of the adapters that every engine lists that answers."""
        listed: list[set[str]] = []

        async def look(url: str, headers: Headers) -> None:
            listed.append(await model_names(self._http, url, headers))

        await self._on_each(look)
        common = set.intersection(*listed)
        return frozenset(key for key, each in self._loaded.items() if each.engine_name in common)

    async def _load(self, adapter: Adapter, url: str, headers: Headers) -> None:
        body = {"lora_name": adapter.engine_name, "lora_path": adapter.path}
        where = f"adapter {adapter.name!r}: the engine at {url}"
        try:
            await self._http.post("/v1/load_lora_adapter", body, url, headers)
        except InvalidRequest as error:
            if _LOADED not in error.message:
                raise ConfigurationError(f"{where} refuses it: {error.message}") from error
        except EngineDead:
            raise
        except ServiceError as error:
            if adapter.engine_name in await model_names(self._http, url, headers):
                return
            raise ConfigurationError(
                f"{where} does not load it; it needs {_ALLOW}=1, `--enable-lora`, a "
                f"`--max-lora-rank` as large as the adapter's, and {adapter.path} in its own "
                "file system"
            ) from error

    async def _check_alike(self, adapter: Adapter, engines: Sequence[tuple[str, Headers]]) -> None:
        body = read_body(_COMPARED, adapter.engine_name, priority=False)
        first: Sequence[float] = ()
        for url, headers in engines:
            answer = await self._http.post("/v1/completions", body, url, headers)
            found = labels_of(answer, _COMPARED).logprobs
            first = first or found
            if not all(
                math.isclose(*pair, abs_tol=_CLOSE) for pair in zip(first, found, strict=True)
            ):
                raise ConfigurationError(
                    f"adapter {adapter.name!r}: the engine at {url} answers otherwise with it than "
                    f"the one at {engines[0][0]}; do both have the same files, model and dtype?"
                )

    async def _on_each(
        self, work: Callable[[str, Headers], Awaitable[None]]
    ) -> list[tuple[str, Headers]]:
        """Do work on each engine, one after the other; returns those that answered.

        Raises EngineDead if none does.
        """
        reached, away = [], None
        for url, headers in await self._http.engines():
            try:
                await work(url, headers)
            except EngineDead as error:
                _log.warning("remote: the engine at %s does not answer", url)
                away = error
            else:
                reached.append((url, headers))
        if away is not None and not reached:
            raise away
        return reached


async def model_names(
    http: HttpEngines, url: str | None = None, headers: Mapping[str, str] | None = None
) -> set[str]:
    """The names of the models and adapters that a server lists."""
    return {each["id"] for each in await model_cards(http, url, headers)}


async def model_cards(
    http: HttpEngines, url: str | None = None, headers: Mapping[str, str] | None = None
) -> list[dict[str, Any]]:
    """The models that a server lists, in OpenAI's form; ServiceError for another answer."""
    try:
        cards = (await http.get("/v1/models", url, headers))["data"]
    except (KeyError, TypeError) as error:
        raise ServiceError("The engines' list of models cannot be read.") from error
    except UnknownModel:
        return []
    return [each for each in cards if isinstance(each, dict) and "id" in each]
