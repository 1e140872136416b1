"""Held-out lines asked of a running service."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import httpx

from service.adapters.manifest import Manifest
from service.correctness.fit import Answered, Match
from service.correctness.lines import is_right
from service.errors import ConfigurationError
from service.evaluation.lines import CompletedLine
from service.generation.confidence import Confidence
from service.together import together

_SECONDS = 300.0
_TRIES = 100
_LONGEST_WAIT_S = 30.0
_PASSING = frozenset({429, 503, 504})
_MEASURES = ("sequence_logprob", "mean_token_logprob", "min_token_probability", "mean_entropy")


@dataclass(frozen=True, slots=True)
class Asked:
    """The whole answers, and the number of those that were cut or empty."""

    answers: Sequence[Answered]
    cut: int


class RunningService:
    """A running service, which is asked `concurrency` lines at a time within a block.

    A refusal that passes (429, 503, 504) is waited out, as Retry-After says.
    """

    def __init__(self, url: str, key: str | None, concurrency: int) -> None:
        self.concurrency = concurrency
        self._url = url.rstrip("/")
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        self._http = httpx.AsyncClient(headers=headers, timeout=_SECONDS)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def check_version(self, name: str, digest: str, listed: str) -> None:
        """Raise ConfigurationError unless a list of the service shows this digest for the name."""
        cards = (await self.sent("GET", listed))["data"]
        digests = {each.get("name") or each.get("id"): each.get("digest") for each in cards}
        if (found := digests.get(name)) != digest:
            raise ConfigurationError(
                f"{self._url}: must serve {name} with the folder's digest {digest}, "
                f"got {found or 'no such model'}"
            )

    async def sent(self, method: str, path: str, body: object = None) -> Any:
        """The JSON answer to a request; raises ConfigurationError for any other."""
        for _ in range(_TRIES):
            try:
                answer = await self._http.request(method, self._url + path, json=body)
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                raise ConfigurationError(f"{self._url}: cannot be reached: {error}") from error
            if answer.status_code not in _PASSING:
                break
            stated = float(answer.headers.get("retry-after", 1))
            await asyncio.sleep(min(max(stated, 0.1), _LONGEST_WAIT_S))
        try:
            if answer.is_error:
                message = answer.json()["error"]["message"]
                raise ConfigurationError(f"{self._url}: {answer.status_code}: {message}")
            return answer.json()
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigurationError(f"{self._url}: the answer is none of this service") from error


class AdapterService(RunningService):
    """A running service that serves an adapter for generation."""

    async def ask(
        self, manifest: Manifest, lines: Sequence[CompletedLine], match: Match, max_tokens: int
    ) -> Asked:
        """The greedy answers to the lines.

        Raises ConfigurationError for a service that cannot be reached, serves other bytes under
        the adapter's name, or refuses a line.
        """
        slots = asyncio.Semaphore(self.concurrency)
        async with self:
            await self.check_version(manifest.name, manifest.digest, "/v1/adapters")
            asked = {"model": manifest.name, "temperature": 0, "max_tokens": max_tokens}
            found = await together([self._answer(asked, line, match, slots) for line in lines])
        whole = [answer for answer in found if answer is not None]
        return Asked(whole, len(found) - len(whole))

    async def _answer(
        self,
        asked: dict[str, Any],
        line: CompletedLine,
        match: Match,
        slots: asyncio.Semaphore,
    ) -> Answered | None:
        request = line.model_dump(include={"prompt", "messages"}, exclude_none=True)
        async with slots:
            body = await self.sent("POST", "/v1/generate", asked | request | {"confidence": True})
        (output,) = body["outputs"]
        if output["finish_reason"] != "stop" or output["confidence"] is None:
            return None
        confidence = Confidence(**{name: output["confidence"][name] for name in _MEASURES})
        group = line.group or line.prompt or str(line.messages)
        return Answered(confidence, is_right(line, output["text"], match), group)
