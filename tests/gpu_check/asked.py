"""Requests of the check, each timed when it is made for the first and for the second time."""

import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import httpx

from tests.gpu_check.steps import Findings

Request = tuple[str, dict[str, Any]]
"""A route and a body without `model`."""


class Asked(Protocol):
    """A server that can be asked."""

    @property
    def model(self) -> str: ...

    def post(self, path: str, body: Any) -> httpx.Response: ...


def _generate(**fields: Any) -> Request:
    return "/v1/generate", {"prompt": "The sea is", "max_tokens": 16, **fields}


def _labels(count: int) -> Request:
    labels = [f"label {number}" for number in range(count)]
    return "/v1/classify", {"input": "I liked it", "candidate_labels": labels}


FIRST: dict[str, Request] = {
    "plain": _generate(),
    "greedy": _generate(temperature=0),
    "top_p": _generate(top_p=0.9),
    "top_k": _generate(top_k=20),
    "top_p and top_k": _generate(top_p=0.9, top_k=20),
    "16 answers, top_p": _generate(n=16, top_p=0.9),
    "penalties": _generate(presence_penalty=0.5, repetition_penalty=1.1),
    "choice": _generate(response_format={"type": "choice", "choice": ["yes", "no"]}),
    "2 labels": _labels(2),
    "16 labels": _labels(16),
    "128 labels": _labels(128),
}
"""Requests to the service's own routes."""

OPENAI: dict[str, Request] = {
    f"{count} log-probabilities": (
        "/v1/completions",
        {"prompt": "The sea is", "max_tokens": 16, "logprobs": count},
    )
    for count in (1, 5, 20)
}

TOO_MANY_BAD_WORDS: Request = (
    "/v1/completions",
    {"prompt": "The sea is", "max_tokens": 4, "bad_words": ["9" * 250] * 5},
)
"""A request with more tokens than vLLM's worker has room for by default: it would end."""


def first_requests(server: Asked, requests: dict[str, Request], most: float) -> Findings:
    """Seconds of each request, the first and the second time.

    AssertionError for an answer other than 200, or a first one that took over `most` seconds longer
    than the second: a kernel was compiled for it.
    """
    found = {}
    for name, request in requests.items():
        first, second = (_timed(server, request) for _ in range(2))
        found[name] = f"{first:.2f} s, then {second:.2f} s"
        assert first <= second + most, f"{name}: {found[name]}; warm-up left it out"
    return found


def bad_words_are_refused(server: Asked) -> Findings:
    """Check that the request is refused and that the engine still answers."""
    status = _ask(server, TOO_MANY_BAD_WORDS).status_code
    assert status == 400, f"bad words of 1,250 tokens: {status}"
    _timed(server, _generate())
    return {"bad words of 1,250 tokens": "400, and the engine lives"}


def overload(server: Asked, requests: int) -> Findings:
    """Send so many requests at once; each is answered, or refused with a time to come back."""
    path, body = _generate(max_tokens=64)
    with ThreadPoolExecutor(requests) as pool:
        asked = [
            pool.submit(server.post, path, {"model": server.model, **body}) for _ in range(requests)
        ]
        answers = [each.result() for each in asked]
    counts = Counter(answer.status_code for answer in answers)
    assert counts.keys() <= {200, 429, 503}, f"{requests} requests: {dict(counts)}"
    assert counts[200], f"{requests} requests, none answered"
    hasty = [answer for answer in answers if answer.status_code != 200 and not _later(answer)]
    assert not hasty, f"{len(hasty)} refusals without Retry-After"
    _timed(server, _generate())
    return {str(status): count for status, count in sorted(counts.items())}


def _later(answer: httpx.Response) -> bool:
    return int(answer.headers.get("Retry-After", 0)) > 0


def throughput(server: Asked, models: Iterable[str], requests: int) -> float:
    """Tokens per second of so many requests at once, in turn to these models."""
    names = list(models)
    path, body = _generate(max_tokens=64, temperature=0)
    began = time.monotonic()
    with ThreadPoolExecutor(requests) as pool:
        answers = list(
            pool.map(
                lambda number: server.post(path, {"model": names[number % len(names)], **body}),
                range(requests),
            )
        )
    seconds = time.monotonic() - began
    assert {answer.status_code for answer in answers} == {200}, answers[0].text
    tokens: int = sum(answer.json()["usage"]["completion_tokens"] for answer in answers)
    return tokens / seconds


def _timed(server: Asked, request: Request) -> float:
    began = time.monotonic()
    answer = _ask(server, request)
    assert answer.status_code == 200, f"{request[0]}: {answer.status_code} {answer.text[:500]}"
    return time.monotonic() - began


def _ask(server: Asked, request: Request) -> httpx.Response:
    path, body = request
    return server.post(path, {"model": server.model, **body})
