"""Held-out lines asked of a running service."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

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


class AdapterService:
    """A running service that serves an adapter; it is asked `concurrency` lines at a time.

    A refusal that passes (429, 503, 504) is waited out, as Retry-After says.
    """

    def __init__(self, url: str, key: str | None, concurrency: int) -> None:
        self._url = url.rstrip("/")
        self._slots = asyncio.Semaphore(concurrency)
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        self._http = httpx.AsyncClient(headers=headers, timeout=_SECONDS)

    async def ask(
        self, manifest: Manifest, lines: Sequence[CompletedLine], match: Match, max_tokens: int
    ) -> Asked:
        """The greedy answers to the lines.

        Raises ConfigurationError for a service that cannot be reached, serves other bytes under
        the adapter's name, or refuses a line.
        """
        async with self._http:
            await self._check_version(manifest)
            asked = {"model": manifest.name, "temperature": 0, "max_tokens": max_tokens}
            found = await together([self._answer(asked, line, match) for line in lines])
        whole = [answer for answer in found if answer is not None]
        return Asked(whole, len(found) - len(whole))

    async def _check_version(self, manifest: Manifest) -> None:
        listed = await self._sent("GET", "/v1/adapters")
        digests = {each["name"]: each["digest"] for each in listed["data"]}
        if (found := digests.get(manifest.name)) != manifest.digest:
            raise ConfigurationError(
                f"{self._url}: must serve {manifest.name} with the folder's digest "
                f"{manifest.digest}, got {found or 'no such adapter'}"
            )

    async def _answer(
        self, asked: dict[str, Any], line: CompletedLine, match: Match
    ) -> Answered | None:
        request = line.model_dump(include={"prompt", "messages"}, exclude_none=True)
        async with self._slots:
            body = await self._sent("POST", "/v1/generate", asked | request | {"confidence": True})
        (output,) = body["outputs"]
        if output["finish_reason"] != "stop" or output["confidence"] is None:
            return None
        confidence = Confidence(**{name: output["confidence"][name] for name in _MEASURES})
        group = line.group or line.prompt or str(line.messages)
        return Answered(confidence, is_right(line, output["text"], match), group)

    async def _sent(self, method: str, path: str, body: object = None) -> Any:
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
