"""The work before admission over HTTP: off the event loop, fair, and paid on every route."""

import asyncio
import threading
from collections.abc import Generator
from typing import Any

import pytest

from loadtests.processes import PATIENCE_S, eventually
from service.settings.admission import PreparationSettings
from tests.answers import refusal
from tests.live_service import LiveService
from tools.fake_engine import FakeModel
from tools.keys import bearer, entry, write_keys

LONG = "word " * 80
CLASSIFY = {"model": "fake", "candidate_labels": ["a", "b"], "calibrate": False}


class Reader:
    """Record of the threads that an engine's tokeniser was called from; they wait for `go_on`."""

    def __init__(self, model: FakeModel, patch: pytest.MonkeyPatch) -> None:
        self.threads: set[str] = set()
        self.reading = 0
        self.go_on = threading.Event()
        self.go_on.set()
        for name in ("encode", "encode_template", "decode"):
            watched = self._watched(getattr(model.texts, name))
            patch.setattr(model.texts, name, watched)
            patch.setattr(model, name, watched)

    def _watched(self, call: Any) -> Any:
        def watched(text: Any) -> Any:
            self.threads.add(threading.current_thread().name)
            self.reading += 1
            self.go_on.wait(PATIENCE_S)
            self.reading -= 1
            return call(text)

        return watched


@pytest.fixture
def reader(service: LiveService, monkeypatch: pytest.MonkeyPatch) -> Generator[Reader, None, None]:
    found = Reader(service.model, monkeypatch)
    yield found
    found.go_on.set()


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/generate", {"model": "fake", "prompt": LONG * 3}),
        ("/v1/generate", {"model": "fake", "messages": [{"role": "user", "content": LONG * 3}]}),
        ("/v1/tokenize", {"model": "fake", "prompt": LONG * 3}),
        ("/v1/tokenize", {"model": "fake", "messages": [{"role": "user", "content": LONG * 3}]}),
        ("/v1/detokenize", {"model": "fake", "tokens": [97] * 4096}),
        ("/v1/classify", CLASSIFY | {"input": "x", "instruction": LONG}),
        ("/v1/classify", CLASSIFY | {"input": "x", "template": "{input} is" + " a" * 126}),
    ],
)
async def test_long_text_is_never_read_on_the_event_loop(
    service: LiveService, reader: Reader, path: str, body: dict[str, Any]
) -> None:
    loop = service.thread_name
    async with service.client() as client:
        await client.post(path, json=body)
    read = {name for name in reader.threads if name.startswith("preparation")}
    assert read
    short = {"/v1/classify"}  # its input is short, and read where it is asked
    assert path in short or loop not in reader.threads


@pytest.fixture
def tenants(tmp_path: Any) -> Generator[LiveService, None, None]:
    keys = write_keys(tmp_path / "keys.yaml", entry("greedy"), entry("victim"))
    preparation = PreparationSettings(max_waiting=8)
    with LiveService(tenants={"keys": keys}, preparation=preparation) as live:
        yield live


async def test_one_tenants_long_texts_keep_no_other_waiting(
    tenants: LiveService, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = {"model": "fake", "prompt": LONG * 10}
    async with tenants.client() as client:

        async def tokenize(tenant: str, body: dict[str, Any]) -> int:
            answer = await client.post("/v1/tokenize", json=body, headers=bearer(tenant))
            return answer.status_code

        reader = Reader(tenants.model, monkeypatch)
        reader.go_on.clear()
        flood = [asyncio.create_task(tokenize("greedy", long)) for _ in range(5)]
        await eventually(lambda: reader.reading == 1)
        monkeypatch.undo()  # the victim's text is not held
        assert await tokenize("victim", {"model": "fake", "prompt": "x" * 400}) == 200
        assert not any(task.done() for task in flood)
        reader.go_on.set()
        assert set(await asyncio.gather(*flood)) == {400}


async def test_too_many_are_refused(tenants: LiveService, monkeypatch: pytest.MonkeyPatch) -> None:
    long = {"model": "fake", "prompt": LONG * 10}
    reader = Reader(tenants.model, monkeypatch)
    reader.go_on.clear()
    async with tenants.client() as client:
        send = [
            asyncio.create_task(client.post("/v1/tokenize", json=long, headers=bearer("greedy")))
            for _ in range(12)
        ]
        done, _ = await asyncio.wait(send, return_when=asyncio.FIRST_COMPLETED)
        answer = done.pop().result()
        assert refusal(answer, 503)["code"] == "queue_full"  # there is no other tenant
        assert answer.headers["retry-after"] == "1"
        reader.go_on.set()
        await asyncio.gather(*send)


async def test_a_templates_tail_is_short(service: LiveService) -> None:
    async with service.client() as client:
        body = CLASSIFY | {"input": "x", "template": "{input}" + "\n" * 251 + "Label:"}
        answer = await client.post("/v1/classify", json=body)
    message = "template: at most 256 characters after {input}, got 257"
    assert refusal(answer, 400)["message"] == message


async def test_the_loops_lag_is_counted(service: LiveService) -> None:
    counted = "inference_event_loop_lag_seconds_count"
    before = service.value(counted)
    await eventually(lambda: service.value(counted) > before + 3)
