"""The remote client where its engines, or a router before them, fail."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from loadtests.processes import PATIENCE_S, free_port
from service.engine.contract import (
    Adapter,
    Job,
    LabelQuery,
    ModelInfo,
    Sampling,
    Structure,
)
from service.errors import (
    ConfigurationError,
    EngineDead,
    InvalidRequest,
    QueueFull,
    ServiceError,
    UnsupportedFeature,
)
from service.generation.fold import Fold
from service.settings.remote import RemoteSettings
from service.vllm.remote.engine import RemoteEngine
from service.vllm.remote.http_client import HttpEngines
from service.vllm.remote.trial import tried, version_of, wait_for
from service.vllm.remote.wire import Taken
from tests.engine.faulty_server import Answer, Asked, Faulty, faulty_server

COMPLETIONS, LOAD, MODELS = "/v1/completions", "/v1/load_lora_adapter", "/v1/models"
MODEL = ModelInfo("base", "sha256:0", 64, 8, max_token_chars=16)
TAKEN = Taken(priority=True, labels=True, structures=True)
ADAPTER = Adapter("mine", 1, "/adapters/mine", "sha256:0123456789abcdef")


def event(text: str, *token_ids: int, finish: str | None = None, index: int = 0) -> dict[str, Any]:
    choice = {"index": index, "text": text, "token_ids": token_ids, "finish_reason": finish}
    return {"choices": [choice | {"stop_reason": None, "logprobs": None}]}


USAGE = {"choices": [], "usage": {"prompt_tokens_details": {"cached_tokens": 2}}}
BEGIN, END = event("one", 1), event(" two", 2, 3, finish="stop")


@asynccontextmanager
async def engine(**settings: Any) -> AsyncIterator[tuple[RemoteEngine, Faulty]]:
    async with faulty_server() as server:
        http = HttpEngines(RemoteSettings(**{"url": server.url} | settings))
        made = RemoteEngine(http, MODEL, "there", TAKEN, str)
        try:
            yield made, server
        finally:
            await made.stop()


def job(adapter: Adapter | None = None, **sampling: Any) -> Job:
    return Job([1, 2, 3], Sampling(8, **sampling), adapter=adapter, id="job-1", cache_salt="salt")


async def test_an_answer_is_put_together_with_its_usage() -> None:
    async def answer(asked: Asked) -> None:
        await asked.stream(BEGIN, end=False)
        for data in (b": still here", *(f"data: {json.dumps(e)}".encode() for e in (END, USAGE))):
            await asked.send(data + b"\r\n\r\n")
        await asked.send(b"data: [DONE]\n\n")

    async with engine(key="secret") as (remote, server):
        server.answers[COMPLETIONS] = answer
        await remote.run(job(seed=5), fold := Fold(details=True))
        (asked,) = server.asked
    (said,) = fold.whole()
    assert (said.text, list(said.token_ids), said.finish_reason) == ("one two", [1, 2, 3], "stop")
    assert fold.cached_tokens == 2
    assert asked.headers["authorization"] == "Bearer secret"
    assert asked.headers["x-request-id"] == "job-1"
    sent = {key: asked.body[key] for key in ("model", "prompt", "cache_salt", "priority", "seed")}
    assert sent == {
        "model": "there", "prompt": [1, 2, 3], "cache_salt": "salt", "priority": 0, "seed": 5,
    }  # fmt: skip


def cut(*events: Any) -> Answer:
    async def answer(asked: Asked) -> None:
        await asked.stream(*events, end=False)

    return answer


def whole(status: int, body: Any, *headers: str) -> Answer:
    async def answer(asked: Asked) -> None:
        await asked.answer(status, body, *headers)

    return answer


def told(code: int, message: str = "said", param: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "param": param, "code": code}}


async def _silent(asked: Asked) -> None:
    await asked.stream(BEGIN, end=False)
    await asked.hung_up()


async def _dropped(asked: Asked) -> None:
    asked.writer.transport.abort()


def done(*events: Any) -> Answer:
    async def answer(asked: Asked) -> None:
        await asked.stream(*events)

    return answer


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (cut(BEGIN), EngineDead),
        (cut(BEGIN, END), EngineDead),
        (done(BEGIN), EngineDead),
        (done(event("", 1, finish="abort")), EngineDead),
        (_silent, EngineDead),
        (_dropped, EngineDead),
        (whole(502, b"<html>bad gateway</html>"), EngineDead),
        (whole(504, {}), EngineDead),
        (whole(503, b"no worker is ready"), QueueFull),
        (whole(429, told(429)), QueueFull),
        (done(BEGIN, told(503)), QueueFull),
        (whole(400, told(400, "top_k must be more", "top_k")), InvalidRequest),
        (done(BEGIN, told(400, "bad", "stop")), InvalidRequest),
        (whole(500, told(500)), ServiceError),
        (whole(401, told(401)), ServiceError),
        (whole(307, {}, "location: /v1/completions"), ServiceError),
        (whole(404, told(404, param="model")), ServiceError),
        (whole(200, b"<html>a page of a login</html>"), EngineDead),
        (done(b"{no json"), ServiceError),
        (done(b"[1]"), ServiceError),
        (done({"choices": [{"index": 0, "text": "no token_ids"}]}), ServiceError),
        (done(event("another", 1, index=7)), ServiceError),
        (done(event("", 1, finish="magic")), ServiceError),
        (done(END, END), ServiceError),
        (cut(b"x" * (5 << 20)), ServiceError),
    ],
)  # fmt: skip
async def test_a_failure_is_an_error_of_the_services_own(
    answer: Answer, error: type[ServiceError]
) -> None:
    async with engine(silence_s=0.3) as (remote, server):
        server.answers[COMPLETIONS] = answer
        with pytest.raises(error) as raised:
            await remote.run(job(), Fold())
        assert error is not ServiceError or raised.value.status == 500
        await remote.check()


async def test_what_a_server_says_of_a_request_is_passed_on() -> None:
    async with engine() as (remote, server):
        server.answers[COMPLETIONS] = whole(400, told(400, "top_k must be more", "top_k"))
        with pytest.raises(InvalidRequest, match="top_k must be more") as refused:
            await remote.run(job(), Fold())
        assert refused.value.param == "top_k"
        server.answers[COMPLETIONS] = whole(503, {}, "retry-after: 7")
        with pytest.raises(QueueFull) as busy:
            await remote.logprobs(LabelQuery([1], (2,)))
        assert busy.value.retry_after == 7
        server.answers[COMPLETIONS] = whole(500, told(500, "a secret path"))
        with pytest.raises(ServiceError) as failed:
            await remote.run(job(), Fold())
        assert "secret" not in failed.value.message


async def test_no_engine_at_the_address_is_an_engine_that_has_ended() -> None:
    async with engine(url=f"http://127.0.0.1:{free_port()}") as (remote, _):
        with pytest.raises(EngineDead, match="cannot be reached"):
            await remote.run(job(), Fold())
        with pytest.raises(EngineDead):
            await remote.load(ADAPTER)


async def test_a_connection_that_was_idle_too_long_is_opened_again() -> None:
    async with engine() as (remote, server):
        first: Answer = _dropped

        async def answer(asked: Asked) -> None:
            nonlocal first
            now, first = first, done(BEGIN, END)
            await now(asked)

        server.answers[COMPLETIONS] = answer
        await remote.run(job(), fold := Fold())
        assert fold.whole()[0].text == "one two"
        assert len(server.asked) == 2


async def test_a_reader_that_goes_away_ends_the_request_in_the_engine() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def answer(asked: Asked) -> None:
        await asked.stream(BEGIN, end=False)
        begun.set()
        await asked.hung_up()
        ended.set()

    async with engine() as (remote, server), asyncio.timeout(PATIENCE_S):
        server.answers[COMPLETIONS] = answer
        reader = asyncio.create_task(remote.run(job(), Fold()))
        await begun.wait()
        reader.cancel()
        await ended.wait()
        with pytest.raises(asyncio.CancelledError):
            await reader


async def test_a_job_that_is_ended_closes_its_connection() -> None:
    ended = asyncio.Event()

    async def answer(asked: Asked) -> None:
        await asked.stream(BEGIN, end=False)
        await asked.hung_up()
        ended.set()

    async with engine() as (remote, server), asyncio.timeout(PATIENCE_S):
        server.answers[COMPLETIONS] = answer
        running, fold, before = job(), Fold(), remote.last_step
        task = asyncio.create_task(remote.run(running, fold))
        while remote.last_step == before:  # noqa: ASYNC110 - its first event
            await asyncio.sleep(0.001)
        running.end()
        await task
        await ended.wait()
        assert (fold.whole()[0].text, fold.whole()[0].finish_reason) == ("one", "length")


async def test_a_probe_waits_for_an_engine_and_reports_its_step() -> None:
    async with engine() as (remote, server), asyncio.timeout(PATIENCE_S):
        server.answers[COMPLETIONS] = whole(503, {})
        probe, before = asyncio.create_task(remote.probe()), remote.last_step
        while len(server.asked) < 2:  # noqa: ASYNC110 - the server has no event for it
            await asyncio.sleep(0.01)
        assert remote.last_step == before
        server.answers[COMPLETIONS] = whole(200, {"choices": []})
        await probe
        assert remote.last_step > before


READ = {"token_id:2": -0.5, "token_id:3": -1.5}


def read_of(*found: str) -> dict[str, Any]:
    logprobs = {"top_logprobs": [{name: READ.get(name, -9.0) for name in found}]}
    return {"choices": [{"token_ids": [3], "logprobs": logprobs}], "usage": None}


async def test_labels_that_a_server_leaves_out_are_missed() -> None:
    async with engine() as (remote, server):
        server.answers[COMPLETIONS] = whole(200, read_of("token_id:2", "token_id:3"))
        read = await remote.logprobs(LabelQuery([1], (3, 2)))
        assert (list(read.logprobs), read.likeliest) == ([-1.5, -0.5], 3)
        server.answers[COMPLETIONS] = whole(200, read_of("token_id:2"))
        with pytest.raises(ServiceError, match="lacks what was asked for"):
            await remote.logprobs(LabelQuery([1], (3, 2)))
        remote._taken = replace(TAKEN, labels=False)
        with pytest.raises(UnsupportedFeature, match="logprob_token_ids"):
            await remote.logprobs(LabelQuery([1], (3, 2)))


async def test_a_structure_after_thoughts_is_refused() -> None:
    choice = Structure(choice=["a"])
    async with engine() as (remote, server):
        server.answers[COMPLETIONS] = done(BEGIN, END)
        thinking = replace(job(structure=choice), options={"reasoning_ended": False})
        with pytest.raises(UnsupportedFeature, match="after thoughts"):
            await remote.run(thinking, Fold())
        unasked = replace(choice, asked=False)
        await remote.run(replace(thinking, sampling=Sampling(8, structure=unasked)), Fold())
        await remote.run(job(structure=choice), Fold())
    without, with_it = server.asked
    assert "structured_outputs" not in without.body
    assert with_it.body["structured_outputs"] == {"choice": ["a"]}


async def test_an_adapter_that_an_engine_has_lost_is_loaded_again_once() -> None:
    loads = []

    async def load(asked: Asked) -> None:
        loads.append(asked.body)
        await asked.answer(200, b"Success")

    async def answer(asked: Asked) -> None:
        known = len(loads) == 2 and asked.body["model"] == ADAPTER.engine_name
        if "logprob_token_ids" in asked.body:
            await asked.answer(200, read_of(*(f"token_id:{each}" for each in range(32))))
        elif known:
            await asked.stream(BEGIN, END)
        else:
            await asked.answer(404, told(404, param="model"))

    async with engine() as (remote, server):
        server.answers |= {COMPLETIONS: answer, LOAD: load}
        await remote.load(ADAPTER)
        folds = [Fold() for _ in range(4)]
        await asyncio.gather(*(remote.run(job(ADAPTER), each) for each in folds))
        assert {each.whole()[0].text for each in folds} == {"one two"}
        assert (await remote.adapters())[1].requests == 4
    assert loads == [{"lora_name": ADAPTER.engine_name, "lora_path": ADAPTER.path}] * 2


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (whole(400, told(400, "LoRA rank 64 is greater than max_lora_rank 16.")), "rank 64"),
        (whole(404, {"detail": "Not Found"}), "VLLM_ALLOW_RUNTIME_LORA_UPDATING"),
    ],
)
async def test_an_adapter_that_an_engine_refuses_cannot_be_served(
    answer: Answer, message: str
) -> None:
    async with engine() as (remote, server):
        server.answers |= {LOAD: answer, MODELS: whole(200, {"data": [{"id": "there"}]})}
        with pytest.raises(ConfigurationError, match=message):
            await remote.load(ADAPTER)


async def test_engines_that_answer_otherwise_with_an_adapter_are_told_apart() -> None:
    async def other(asked: Asked) -> None:
        read = read_of(*(f"token_id:{each}" for each in range(32)))
        read["choices"][0]["logprobs"]["top_logprobs"][0]["token_id:7"] = -4.0
        await asked.answer(200, read)

    async with faulty_server() as second, faulty_server() as first:
        first.answers |= {
            COMPLETIONS: whole(200, read_of(*(f"token_id:{each}" for each in range(32)))),
            LOAD: whole(400, told(400, "The lora adapter has already been loaded.")),
        }
        second.answers |= {COMPLETIONS: other, LOAD: whole(200, b"Success")}
        async with engine(engines=(first.url, second.url)) as (remote, _):
            with pytest.raises(ConfigurationError, match=f"{second.url} answers otherwise"):
                await remote.load(ADAPTER)


async def test_a_start_waits_for_the_engines_and_compares_their_model() -> None:
    card = {"id": "there", "max_model_len": 512}
    async with faulty_server() as server:
        settings = RemoteSettings(url=server.url, wait_s=PATIENCE_S)
        http, starting = HttpEngines(settings), whole(503, {})

        async def models(asked: Asked) -> None:
            now = starting if len(server.asked) == 1 else whole(200, {"data": [card]})
            await now(asked)

        server.answers[MODELS] = models
        await wait_for(http, settings, "there", 512)
        assert len(server.asked) == 2
        with pytest.raises(ConfigurationError, match=r"must be at most .* 512, got 513"):
            await wait_for(http, settings, "there", 513)
        with pytest.raises(ConfigurationError, match="'other' is not served there, only there"):
            await wait_for(http, settings, "other", 512)
        server.answers[MODELS] = starting
        settings = settings.model_copy(update={"wait_s": 0.01})
        with pytest.raises(ConfigurationError, match=r"within 0\.01 s: The engines take no more"):
            await wait_for(http, settings, "there", 512)
        server.answers["/version"] = whole(404, b"no such page")
        assert await version_of(http) == ""
        await http.close()


def generated(text: str, *token_ids: int) -> dict[str, Any]:
    return {"choices": [{"text": text, "token_ids": token_ids}]}


async def trial(answer: Callable[[dict[str, Any]], tuple[int, Any]]) -> Taken:
    """What a start finds of a server that answers completions so."""

    async def answered(asked: Asked) -> None:
        await asked.answer(*answer(asked.body))

    async with faulty_server() as server:
        server.answers[COMPLETIONS] = answered
        http = HttpEngines(RemoteSettings(url=server.url))
        try:
            return await tried(http, "there", _text)
        finally:
            await http.close()


def _text(token_ids: Any) -> str:
    return "".join(chr(64 + each) for each in token_ids)


async def test_a_start_finds_what_the_engines_take() -> None:
    def able(body: dict[str, Any]) -> tuple[int, Any]:
        if "logprob_token_ids" in body:
            return 200, read_of("token_id:0", "token_id:1")
        return 200, generated("yes" if "structured_outputs" in body else "AB", 1, 2)

    def plain(body: dict[str, Any]) -> tuple[int, Any]:
        if "priority" in body:
            return 400, told(400, "Got priority 1 but Priority scheduling is not enabled.")
        return 200, generated("AB", 1, 2)

    assert await trial(able) == Taken(priority=True, labels=True, structures=True)
    assert await trial(plain) == Taken(priority=False, labels=False, structures=False)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((400, told(400, "no")), "refuse a plain generation"),
        ((200, {"choices": [{"text": "AB"}]}), "have no `token_ids`"),
        ((200, generated("otherwise", 1, 2)), "have another tokenizer"),
        ((401, told(401)), "a first request to the engines failed"),
    ],
)
async def test_engines_that_cannot_serve_end_the_start(
    answer: tuple[int, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        await trial(lambda body: answer)
