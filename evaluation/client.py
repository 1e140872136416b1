"""Client of an OpenAI-compatible service, which waits and retries after temporary refusals."""

import asyncio
from collections.abc import Mapping
from typing import Any

import httpx

from service.common.command_line import service_address
from service.errors import ConfigurationError

_TRIES = 10
_LONGEST_WAIT_S = 60.0
_SECONDS = 300.0
_SHOWN = 300
_PASSING = frozenset({408, 429, 502, 503, 504})


class Refused(ConfigurationError):
    """An error response of the service that a retry would not change."""

    def __init__(self, url: str, status: int, message: str, code: str = "") -> None:
        super().__init__(f"{status}: {message} ({url})")
        self.status = status
        self.code = code


class Client:
    """Requests to one model of a service, at most `concurrency` at a time.

    A request is tried up to ten times if it gets a temporary refusal (408, 429, 502, 503, 504), or
    if its connection fails after an earlier one succeeded. Between tries the client waits for as
    long as Retry-After says, else for 1, 2, 4, ... seconds, at most a minute.
    """

    def __init__(self, url: str, key: str | None, concurrency: int) -> None:
        self.url = service_address(url)
        self.key = key
        self.concurrency = concurrency
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        self._http = httpx.AsyncClient(headers=headers, timeout=_SECONDS)
        self._slots = asyncio.Semaphore(concurrency)
        self._reached = False

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def model(self, named: str | None) -> str:
        """The model to ask: the named one, or else the only one that the service lists.

        A service without a list is expected to have the named model. Raises ConfigurationError for
        a service that cannot be reached or does not list the model.
        """
        try:
            names = [str(card["id"]) for card in (await self.read("/v1/models"))["data"]]
        except Refused as error:
            if error.status == 404 and named is not None:
                return named
            raise
        except (KeyError, TypeError) as error:
            raise ConfigurationError(f"{self.url}: /v1/models: is not OpenAI's list") from error
        if named is None and len(names) == 1:
            return names[0]
        if named is None or named not in names:
            shown = ", ".join(names[:20])
            said = "no model is named" if named is None else f"no model {named!r}"
            raise ConfigurationError(f"{self.url}: {said}; the service has {shown}")
        return named

    async def read(self, path: str) -> Any:
        """The JSON answer to a GET; raises as `ask`."""
        return await self._json("GET", path, None)

    async def ask(self, path: str, body: Mapping[str, Any]) -> Any:
        """The JSON answer to a POST.

        Raises Refused, and ConfigurationError for a service that cannot be reached or whose answer
        is not JSON.
        """
        return await self._json("POST", path, body)

    async def _json(self, method: str, path: str, body: Mapping[str, Any] | None) -> Any:
        async with self._slots:
            try:
                return (await self._sent(method, path, body)).json()
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                raise ConfigurationError(f"{self.url}: cannot be reached: {error}") from error
            except ValueError as error:
                raise ConfigurationError(f"{self.url}: {path}: the answer is not JSON") from error

    async def _sent(self, method: str, path: str, body: Mapping[str, Any] | None) -> httpx.Response:
        for number in range(_TRIES):
            last = number == _TRIES - 1
            try:
                answer = await self._http.request(method, self.url + path, json=body)
            except httpx.TransportError:
                if last or not self._reached:
                    raise
                await asyncio.sleep(min(2.0**number, _LONGEST_WAIT_S))
                continue
            self._reached = True
            if answer.status_code not in _PASSING or last:
                break
            await asyncio.sleep(_wait(answer, number))
        if answer.is_error:
            raise _refused(answer)
        return answer


def _wait(answer: httpx.Response, number: int) -> float:
    """Seconds until the next try; a Retry-After with a date is ignored."""
    try:
        stated = float(answer.headers["retry-after"])
    except (KeyError, ValueError):
        stated = 2.0**number
    return min(max(stated, 0.0), _LONGEST_WAIT_S)


def _refused(answer: httpx.Response) -> Refused:
    try:
        error = answer.json()["error"]
        message, code = str(error["message"])[:_SHOWN], str(error.get("code"))
    except (ValueError, KeyError, TypeError, AttributeError):
        message, code = answer.reason_phrase, ""
    return Refused(str(answer.url), answer.status_code, message, code)
