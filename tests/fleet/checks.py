"""What is tried through a router before two replicas; a check that fails raises."""

import json
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx

from loadtests.processes import wait_until
from tests.fleet.crowd import FAILED, OK, REFUSED, SILENT, Crowd, crowd
from tests.fleet.replicas import Replica
from tests.fleet.routers import MODEL, Running

_CHAT: dict[str, Any] = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "Hello"}],
    "max_tokens": 8,
}
_QUICK = _CHAT | {"ignore_eos": True}
_STREAM = _QUICK | {"stream": True, "max_tokens": 32}
_LONG = _QUICK | {"max_tokens": 1500}
_SECONDS = 60
_NOTICED_S = 20.0
"""The longest time in which a router may take a replica for what it was."""


@dataclass(frozen=True)
class Fleet:
    """A router, and the replicas behind it."""

    router: Running
    replicas: Sequence[Replica]

    @property
    def url(self) -> str:
        """The router's address."""
        return self.router.url

    def post(self, path: str, body: Mapping[str, Any], **options: Any) -> httpx.Response:
        """POST a body through the router; AssertionError unless it is answered with 200."""
        answer = httpx.post(self.url + path, json=body, timeout=_SECONDS, **options)
        assert answer.status_code == 200, f"{answer.status_code}: {answer.text[:300]}"
        return answer

    def in_use(self) -> list[float]:
        """The requests in each replica's engine."""
        return [each.value("inference_requests_in_flight") for each in self.replicas]

    def refused(self) -> float:
        """The requests that the replicas refused, also those that the router tried again."""
        return sum(each.value("inference_refusals_total") for each in self.replicas)

    def answered(self) -> list[float]:
        """The requests that each replica answered."""
        return [each.value("inference_requests_total") for each in self.replicas]


def route(path: str, body: Mapping[str, Any], wanted: str) -> Callable[[Fleet], None]:
    """A check that a route's answer has a text."""

    def check(fleet: Fleet) -> None:
        text = fleet.post(path, body).text
        assert wanted in text, text[:300]

    return check


def stream(fleet: Fleet) -> None:
    """Events come one by one, and the last one is [DONE]."""
    times = []
    with httpx.stream(
        "POST", f"{fleet.url}/v1/chat/completions", json=_LONG | {"stream": True}, timeout=_SECONDS
    ) as answer:
        lines = []
        for line in answer.iter_lines():
            if line:
                times.append(time.monotonic())
                lines.append(line)
    assert lines[-1] == "data: [DONE]", lines[-1][:300]
    assert times[len(times) // 2] - times[0] > 0.05, "all events came at once"


def both_answer(fleet: Fleet) -> None:
    """Twenty chats are spread over both replicas."""
    before = fleet.answered()
    for number in range(20):
        asked = [{"role": "user", "content": f"{number} " * 30}]
        fleet.post("/v1/chat/completions", _QUICK | {"messages": asked})
    shares = [after - first for after, first in zip(fleet.answered(), before, strict=True)]
    assert min(shares) > 0, f"answers of each replica: {shares}"


def batch(fleet: Fleet) -> None:
    """A batch of ten chats, whose file, start, end and result each replica may be asked for."""
    line = {"method": "POST", "url": "/v1/chat/completions", "body": _CHAT}
    lines = [json.dumps({"custom_id": str(number), **line}) for number in range(10)]
    with httpx.Client(base_url=fleet.url, timeout=_SECONDS) as client:
        sent = client.post(
            "/v1/files",
            data={"purpose": "batch"},
            files={"file": ("in.jsonl", "\n".join(lines).encode())},
        )
        assert sent.status_code == 200, f"{sent.status_code}: {sent.text[:300]}"
        asked = {"endpoint": "/v1/chat/completions", "completion_window": "24h"}
        made = client.post("/v1/batches", json=asked | {"input_file_id": sent.json()["id"]})
        assert made.status_code == 200, f"{made.status_code}: {made.text[:300]}"
        path = f"/v1/batches/{made.json()['id']}"
        wait_until(lambda: client.get(path).json()["status"] == "completed", _SECONDS, "the end")
        result = client.get(f"/v1/files/{client.get(path).json()['output_file_id']}/content")
    assert len(result.text.splitlines()) == 10, result.text[:300]


def prefix(fleet: Fleet) -> None:
    """Each of some long prompts, sent again, is answered from the cache that has it.

    Their number is odd, so that replicas that take turns do not pass.
    """
    prompts = [f"{number} {secrets.token_hex(8)} " * 20 for number in range(13)]
    found = []
    for round_number in range(2):
        for prompt in prompts:
            asked = _QUICK | {"messages": [{"role": "user", "content": prompt}]}
            usage = fleet.post("/v1/chat/completions", asked).json()["usage"]
            cached = usage["prompt_tokens_details"]["cached_tokens"]
            found += [cached > usage["prompt_tokens"] / 2] if round_number else []
        time.sleep(1)  # events of the first round may be on their way
    assert all(found), f"{sum(found)} of {len(found)} were cached"


def hang_up(fleet: Fleet) -> None:
    """A client that goes away in the middle of a stream takes its request out of the engine."""
    before = sum(each.cancelled() for each in fleet.replicas)
    with httpx.stream(
        "POST", f"{fleet.url}/v1/chat/completions", json=_LONG | {"stream": True}, timeout=_SECONDS
    ) as answer:
        next(answer.iter_lines())
    wait_until(lambda: sum(fleet.in_use()) == 0, _SECONDS, "the end in the engine")
    ended = sum(each.cancelled() for each in fleet.replicas) - before
    assert ended == 1, "the answer went on to its end"


def load_shedding(fleet: Fleet) -> None:
    """Overload opens no breaker: others are served at once when it ends, and nobody sees a 5xx."""
    before, openings = fleet.refused(), fleet.router.openings()
    with crowd(fleet.url, 48, _QUICK | {"max_tokens": 200}) as met:
        wait_until(lambda: fleet.refused() - before >= 60, _SECONDS, "60 refusals")
    assert not met.outcomes()[FAILED], met.details(FAILED)
    assert not met.outcomes()[SILENT], met.details(SILENT)
    assert fleet.router.openings() == openings, "a breaker opened"
    _all_answered(fleet, 40)


def own_deadlines(fleet: Fleet) -> None:
    """Deadlines that a client chose too short open no breaker."""
    url, headers = f"{fleet.url}/v1/chat/completions", {"x-request-timeout-ms": "1"}
    openings = fleet.router.openings()
    with ThreadPoolExecutor(8) as threads:
        sent = [
            threads.submit(httpx.post, url, json=_LONG, headers=headers, timeout=_SECONDS)
            for _ in range(32)
        ]
        statuses = {each.result().status_code for each in sent}
    assert statuses <= {408, 429}, statuses
    assert fleet.router.openings() == openings, "a breaker opened"
    _all_answered(fleet, 40)


def _all_answered(fleet: Fleet, requests: int) -> None:
    """Short chats one after the other, all answered, by both replicas."""
    before = fleet.answered()
    for number in range(requests):
        asked = [{"role": "user", "content": f"{number} " * 30}]
        fleet.post("/v1/chat/completions", _QUICK | {"messages": asked})
    shares = [after - first for after, first in zip(fleet.answered(), before, strict=True)]
    assert min(shares) > 0, f"answers of each replica: {shares}"


def drain(fleet: Fleet) -> None:
    """A replica that is drained, and started again: no client sees an error."""
    first = fleet.replicas[0]
    with crowd(fleet.url, 4, _STREAM, pause=0.05) as met:
        _restart(first)
        wait_until(lambda: met.outcomes()[OK] > 20, _SECONDS, "answers")
    _without_errors(met)
    _takes_part(fleet, first)


def rolling_restart(fleet: Fleet) -> None:
    """All replicas restart in turn: no client sees an error."""
    with crowd(fleet.url, 4, _STREAM, pause=0.05) as met:
        for each in fleet.replicas:
            _restart(each)
            _takes_part(fleet, each)
    _without_errors(met)


def kill(fleet: Fleet) -> None:
    """A replica is killed under load: what ran there fails, then no more, until it is back."""
    first, openings = fleet.replicas[0], fleet.router.openings()
    with crowd(fleet.url, 8, _STREAM, pause=0.05) as met:
        wait_until(lambda: met.outcomes()[OK] > 20, _SECONDS, "answers")
        first.kill()
        died = met.now
        time.sleep(_NOTICED_S)
        quiet = met.now
        assert fleet.router.openings() > openings, "no breaker opened"
        wait_until(lambda: met.outcomes(quiet)[OK] > 20, _SECONDS, "answers of the other replica")
        first.begin()
        first.wait()
        _takes_part(fleet, first)
    assert not met.outcomes()[SILENT], met.details(SILENT)
    late = met.outcomes(died + _NOTICED_S)[FAILED]
    assert not late, f"{late} failed after {_NOTICED_S:g} s: {met.details(FAILED)}"


def _restart(replica: Replica) -> None:
    replica.drain()
    replica.drained()
    replica.begin()
    replica.wait()


def _without_errors(met: Crowd) -> None:
    outcomes = met.outcomes()
    assert outcomes[OK], "nothing was answered"
    assert outcomes.keys() == {OK}, f"{dict(outcomes)}: {met.details(FAILED, SILENT, REFUSED)}"


def _takes_part(fleet: Fleet, replica: Replica) -> None:
    """Wait until a replica that has started answers chats of the router's."""

    def asked() -> bool:
        before = replica.value("inference_requests_total")
        for number in range(6):
            content = f"{time.monotonic()} {number} " * 20
            body = _QUICK | {"messages": [{"role": "user", "content": content}]}
            httpx.post(f"{fleet.url}/v1/chat/completions", json=body, timeout=_SECONDS)
        return replica.value("inference_requests_total") > before

    wait_until(asked, 60, "a request for the replica that came back", every=1.0)


_PROMPT = {"model": MODEL, "prompt": "Hello", "max_tokens": 4}
_QUESTION = {"type": "predicate", "instructions": "It is good."}
CHECKS: Mapping[str, Callable[[Fleet], None]] = {
    "chat": route("/v1/chat/completions", _CHAT, '"choices"'),
    "stream": stream,
    "completion": route("/v1/completions", _PROMPT, '"text_completion"'),
    "response": route("/v1/responses", {"model": MODEL, "input": "Hello"}, '"output"'),
    "message": route("/v1/messages", _CHAT, '"assistant"'),
    "tokens (`/tokenize`)": route("/tokenize", {"model": MODEL, "prompt": "Hello"}, '"tokens"'),
    "`/v1/generate`": route("/v1/generate", _PROMPT, '"outputs"'),
    "`/v1/classify` with labels": route(
        "/v1/classify",
        {"model": MODEL, "input": "Hello", "candidate_labels": ["good", "bad"]},
        '"score"',
    ),
    "`/v1/decisions`": route(
        "/v1/decisions",
        {"model": MODEL, "input": "Hello", "questions": [_QUESTION]},
        '"probability"',
    ),
    "batch": batch,
    "both replicas answer": both_answer,
    "a prefix goes to where it is cached": prefix,
    "hang-up ends the request": hang_up,
    "load shedding opens no breaker": load_shedding,
    "short deadlines open no breaker": own_deadlines,
    "drain of one replica": drain,
    "one replica killed under load": kill,
    "rolling restart": rolling_restart,
}
"""The checks in their order; the last ones take the most time."""
