"""The contract of engines for vLLM, in this process with the one-layer model."""

import asyncio
import json
import os
import re
import signal
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import psutil
import pytest
from prometheus_client import REGISTRY
from service.vllm.fast.plain.stream import PlainStream
from starlette.responses import JSONResponse
from vllm.inputs import tokens_input
from vllm.outputs import CompletionOutput, RequestOutput
from vllm.sampling_params import RequestOutputKind, SamplingParams
from vllm.v1.engine import EngineCoreRequestType, utils

from loadtests.processes import wait_until
from service.context import enter_context, internal_context
from service.engine.protocol import Prompt, Sampling
from service.errors import ConfigurationError, DeadlineExceeded, InvalidRequest, ServiceError
from service.settings import platform
from service.vllm.cpu import forkserver as seed
from service.vllm.engine import VllmEngine
from service.vllm.process import read_vitals
from service.vllm.warm_up import paths, warm_up
from tests.engine.contract import CONTRACT, uphold
from tests.engine.in_process import Running, running_engine
from tools.served.server import named

PROMPT = tokens_input(list(range(100, 400)))
TALK = {"role": "user", "content": "Zähle: \u00e9, \U0001f600"}
DRAWN: dict[str, Any] = {"temperature": 1.0, "seed": 9, "max_tokens": 40}


@pytest.fixture(scope="module")
def running(tiny_folder: Path) -> Iterator[Running]:
    with running_engine(tiny_folder, sequences=8) as engine:
        yield engine


@pytest.mark.parametrize("check", CONTRACT, ids=lambda check: check.__name__)
def test_vllm_upholds(
    running: Running, check: Callable[[Any, Any], Coroutine[Any, Any, None]]
) -> None:
    runner, engine, gate = running
    runner.run(uphold(check, engine, gate))


def test_vllm_takes_every_path_of_warm_up_that_its_slots_allow(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner, engine, gate = running
    monkeypatch.setattr(platform, "installed", lambda: platform.CUDA)
    answered: list[SamplingParams] = []
    generate = engine._llm.generate

    async def noting(
        prompt: Any, params: SamplingParams, *arguments: Any, **options: Any
    ) -> AsyncGenerator[RequestOutput, None]:
        indices: set[int] = set()
        async for output in generate(prompt, params, *arguments, **options):
            indices.update(each.index for each in output.outputs)
            yield output
        assert output.finished
        assert indices == set(range(params.n))
        answered.append(params)

    monkeypatch.setattr(engine._llm, "generate", noting)
    monkeypatch.setattr(gate, "acquire", None)  # which would take compiling for slowness
    runner.run(warm_up(engine._llm))
    fitting = [params for _, params in paths(platform.CUDA) if params.n <= 8]
    assert [params.n for params in answered] == [params.n for params in fitting]
    assert len(answered) > 30


def test_a_warm_up_that_takes_too_long_is_refused(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner, engine, _ = running
    hasty = replace(platform.CPU, warm_up_s=0.0)
    monkeypatch.setattr(platform, "installed", lambda: hasty)
    with pytest.raises(ConfigurationError, match="first requests took more than 0 s"):
        runner.run(engine.warm_up())


def whole_answer(**options: Any) -> SamplingParams:
    """Parameters as vLLM's OpenAI handlers make them of a request without `stream`."""
    kind = RequestOutputKind.FINAL_ONLY
    return SamplingParams(**DRAWN | options, output_kind=kind, skip_clone=True)


def without_logprobs(output: CompletionOutput) -> CompletionOutput:
    """The output, also without the versions of weights, which no route shows."""
    bare = replace(output, logprobs=None, cumulative_logprob=None)
    return replace(bare, weight_versions=None) if hasattr(bare, "weight_versions") else bare


def logprobs_of(output: CompletionOutput) -> dict[tuple[int, int], float]:
    """Log-probabilities by place and token, and their sum under (-1, 0)."""
    places = enumerate(output.logprobs or [])
    found = {(n, token): each.logprob for n, place in places for token, each in place.items()}
    return found | {(-1, 0): output.cumulative_logprob or 0.0}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"n": 3, "logprobs": 2},
        {"prompt_logprobs": 1, "logprobs": 0},
        {"stop": ["{third}", "never said"]},
        {"stop": ["{third}"], "include_stop_str_in_output": True},
        {"max_tokens": 1, "n": 2},
    ],
    ids=lambda options: "-".join(options) or "plain",
)
def test_a_whole_answer_is_the_one_that_vllm_gives(
    running: Running, options: dict[str, Any]
) -> None:
    runner, engine, _ = running

    async def both() -> tuple[RequestOutput, RequestOutput]:
        enter_context(internal_context("whole", 600.0))
        (drawn,) = [each async for each in engine._llm.generate(PROMPT, whole_answer(), "drawn")]
        third = engine.decode(drawn.outputs[0].token_ids[3:4])
        if "stop" in options:
            options["stop"] = [stop.format(third=third) for stop in options["stop"]]
        params = whole_answer(**options)
        (final,) = [each async for each in engine._llm.generate(PROMPT, params, "final")]
        (given,) = [each async for each in engine.client.generate(PROMPT, params, "")]
        assert params.output_kind is RequestOutputKind.FINAL_ONLY
        return final, given

    final, given = runner.run(both())
    for got, wanted in zip(given.outputs, final.outputs, strict=True):
        assert without_logprobs(got) == without_logprobs(wanted)
        # Other rows of the batch change the last digit.
        assert logprobs_of(got) == pytest.approx(logprobs_of(wanted), abs=1e-4)
    assert given.prompt_logprobs == final.prompt_logprobs
    assert given.prompt_token_ids == final.prompt_token_ids
    assert given.finished
    assert given.num_cached_tokens is not None
    assert given.metrics is not None
    if "stop" in options:
        assert given.outputs[0].stop_reason == options["stop"][0]


async def take(engine: VllmEngine, body: dict[str, Any]) -> None:
    """Take a whole answer of vLLM's client, or of a route where there is a body."""
    assert engine.openai is not None
    asked = {"model": "tiny", "max_tokens": 200, "ignore_eos": True} | body
    if "messages" in body:
        await engine.openai.chat(asked)
    elif "prompt" in body:
        await engine.openai.completion(asked)
    else:
        params = whole_answer(max_tokens=200, ignore_eos=True)
        async for _ in engine.client.generate(PROMPT, params, ""):
            pass


WAYS = pytest.mark.parametrize(
    "body",
    [{}, {"prompt": PROMPT["prompt_token_ids"]}, {"messages": [TALK]}],
    ids=["client", "completion", "chat"],
)


@WAYS
def test_a_whole_answer_that_ends_early_has_used_its_tokens(
    running: Running, body: dict[str, Any]
) -> None:
    runner, engine, gate = running
    context = internal_context("leaves", 600.0)

    async def leave() -> None:
        enter_context(context)
        reader = asyncio.create_task(take(engine, body))
        while context.times.first_token is None and not reader.done():  # noqa: ASYNC110 - told to the context alone
            await asyncio.sleep(0.001)
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader

    runner.run(leave())
    assert gate.in_flight == 0
    assert context.tokens.prompt == 300 or ("messages" in body and context.tokens.prompt)
    assert 0 < context.tokens.completion < 200


@WAYS
def test_a_whole_answer_ends_at_its_deadline(running: Running, body: dict[str, Any]) -> None:
    runner, engine, gate = running

    async def wait() -> None:
        enter_context(internal_context("late", 0.02))
        await take(engine, body)

    with pytest.raises(DeadlineExceeded):
        runner.run(wait())
    assert gate.in_flight == 0


def test_sampling_that_vllm_refuses_is_an_invalid_request(running: Running) -> None:
    runner, engine, _ = running

    async def ask() -> None:
        enter_context(internal_context("greedy", 600.0))
        sampling = Sampling(max_tokens=1, n=2, temperature=0.0)
        async for _ in engine.generate(Prompt([1, 2]), sampling, None):
            pass

    with pytest.raises(InvalidRequest, match="greedy"):
        runner.run(ask())


class Recorder:
    """A writer to a client that pauses after each of the first `held` parts."""

    def __init__(self, held: int = 0) -> None:
        self.parts: list[bytes] = []
        self.on_free: Callable[[], None] = lambda: None
        self.free = asyncio.Event()
        self.free.set()
        self._held = held

    @property
    def busy(self) -> bool:
        return not self.free.is_set()

    def write(self, part: bytes) -> None:
        self.parts.append(part)
        if self._held:
            self.free.clear()
            asyncio.get_running_loop().call_later(0.05, self._free)

    async def flush(self) -> None:
        while self.busy:
            await self.free.wait()

    def _free(self) -> None:
        self.free.set()
        self.on_free()


CHAT: dict[str, Any] = {"messages": [TALK]}
HOT = {"temperature": 2.0, "seed": 5, "max_tokens": 200}
PLAIN: dict[str, dict[str, Any]] = {
    "chat": CHAT,
    "usage": CHAT | {"stream_options": {"include_usage": True}},
    "one token": CHAT | {"max_tokens": 1},
    "hot": CHAT | HOT,
    "completion": {"prompt": "Once upon"},
    "completion with usage": {"prompt": [1, 2, 3], "stream_options": {"include_usage": True}},
    "hot completion": {"prompt": "a"} | HOT,
    "more than fits": CHAT | {"max_completion_tokens": 512, "ignore_eos": True},
    "stop": CHAT | HOT | {"stop": ["th", "er", "an", "in", "on", "re"]},
    "stop over tokens": CHAT | {"stop": "\n\n\n"},
    "stopped completion": {"prompt": "a", "stream_options": {"include_usage": True}, "stop": "e"}
    | HOT,
}


async def streamed(
    engine: VllmEngine, body: dict[str, Any], writer: Recorder, *, pushed: bool = True
) -> bytes:
    """The events of a streamed request; the time of its creation is left out."""
    context = internal_context("plain", 600.0)
    context.model = "tiny"
    enter_context(context)
    body = {"model": "tiny", "stream": True, "max_tokens": 40, "temperature": 0.0} | body
    assert engine.openai is not None
    ask = engine.openai.chat if "messages" in body else engine.openai.completion
    answer = await ask(body)
    assert isinstance(answer, PlainStream if pushed else AsyncGenerator)
    if isinstance(answer, PlainStream):
        await answer.write_to(writer)
        events = b"".join(writer.parts)
    elif isinstance(answer, AsyncGenerator):
        events = b"".join([event async for event in answer])
    return re.sub(rb'"created":\d+', b'"created":0', events)


TEXT = re.compile(rb'"(?:content|text)":"((?:[^"\\]|\\.)*)"')


def frames(events: bytes) -> list[bytes]:
    """The events without their texts; equal ones in a row are given once."""
    bare = TEXT.sub(b"", events).split(b"\n\n")
    return [event for event, before in zip(bare, [b"", *bare], strict=False) if event != before]


def by_the_handler_alone(engine: VllmEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have vLLM's handlers answer everything, in tasks of their own."""
    monkeypatch.setattr(engine.openai, "plain_chats", None)
    monkeypatch.setattr(engine.openai, "plain_completions", None)


@pytest.mark.fast
@pytest.mark.parametrize("body", PLAIN.values(), ids=PLAIN)
def test_a_pushed_stream_has_the_bytes_of_vllms_own(
    running: Running, body: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    runner, engine, gate = running
    pushed = runner.run(streamed(engine, body, Recorder()))
    by_the_handler_alone(engine, monkeypatch)
    # vLLM puts the texts of steps together where its reader is late.
    pulled = runner.run(streamed(engine, body, Recorder(), pushed=False))
    assert frames(pushed) == frames(pulled)
    assert b"".join(TEXT.findall(pushed)) == b"".join(TEXT.findall(pulled))
    assert gate.in_flight == 0


@pytest.mark.fast
def test_a_stop_string_ends_the_request_in_the_engine_too(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner, engine, _ = running
    core = engine._llm.engine_core
    send, aborted = core._send_input, []

    def note(kind: EngineCoreRequestType, request: Any, *more: Any) -> Any:
        if kind is EngineCoreRequestType.ABORT:
            aborted.append(request)
        return send(kind, request, *more)

    monkeypatch.setattr(core, "_send_input", note)
    monkeypatch.setattr(engine._llm, "add_request", None)  # vLLM's own way
    events = runner.run(streamed(engine, PLAIN["stop"], Recorder()))
    assert b'"finish_reason":"stop"' in events
    ((ended,),) = aborted
    assert ended.startswith("plain")


REFUSED: dict[str, dict[str, Any]] = {
    "too long": {"prompt": list(range(513))},
    "no such token": {"prompt": [10**9]},
    "no tokens": {"prompt": "a", "max_tokens": 0},
    "too hot": {"prompt": "a", "temperature": -1},
    "too long a chat": {"messages": [{"role": "user", "content": "word " * 600}]},
    "no messages": {"messages": []},
    "no tokens in a chat": CHAT | {"max_tokens": 0},
    "no tokens of a chat": CHAT | {"max_completion_tokens": 0},
    "too hot a chat": CHAT | {"temperature": -1},
    "no part of a chat": CHAT | {"top_p": 0},
}


@pytest.mark.fast
@pytest.mark.parametrize("body", REFUSED.values(), ids=REFUSED)
def test_a_pushed_stream_is_refused_as_by_vllms_handler(
    running: Running, body: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    runner, engine, gate = running

    def outcome(*, pushed: bool) -> bytes | str:
        try:
            return runner.run(streamed(engine, body, Recorder(), pushed=pushed))
        except ServiceError as error:
            return f"{error.status} {error.body('plain')}"

    own = outcome(pushed=True)
    by_the_handler_alone(engine, monkeypatch)
    assert own == outcome(pushed=False)
    assert gate.in_flight == 0


COMPLETION: dict[str, Any] = {"prompt": "a"}
WHOLE: dict[str, dict[str, Any]] = {
    "text": {"prompt": "Once upon"},
    "tokens": {"prompt": [1, 2, 3], "max_tokens": 1},
    "hot": {"prompt": "Zähle: \u00e9, \U0001f600", "temperature": 2, "seed": 7, "max_tokens": 200},
    "greedy": COMPLETION | {"temperature": 0, "user": "me", "n": 1, "stream": False},
    "stops": COMPLETION | HOT | {"stop": ["th", "er", "an", "in", "on", "re"]},
    "more than fits": {"prompt": list(range(500)), "max_tokens": 512, "ignore_eos": True},
    "chat": CHAT | {"max_completion_tokens": 30, "stream": False},
    "one token of a chat": CHAT | {"max_tokens": 1},
    "hot chat": CHAT | {"temperature": 2, "seed": 7, "max_tokens": 200},
    "stopped chat": CHAT | HOT | {"stop": ["e", "a", "i", "o"]},
    "chat stopped over tokens": CHAT | {"temperature": 0.0, "max_tokens": 40, "stop": "\n\n\n"},
    "more than fits a chat": CHAT | {"max_completion_tokens": 512, "ignore_eos": True},
    "longest chat": CHAT | {"temperature": 0.0, "ignore_eos": True},
    "long text": {"prompt": "word " * 600},
    "no such integer": {"prompt": [10**30]},
    "no part": COMPLETION | {"top_p": 0},
    **REFUSED,
}


async def whole(engine: VllmEngine, body: dict[str, Any], *, plain: bool) -> bytes | str:
    """The JSON of a whole answer, without the time of its creation, or its error."""
    context = internal_context("plain", 600.0)
    context.model = "tiny"
    enter_context(context)
    assert engine.openai is not None
    ask = engine.openai.chat if "messages" in body else engine.openai.completion
    try:
        answer = await ask({"model": "tiny", "seed": 7} | body)
    except ServiceError as error:
        return f"{error.status} {error.body('plain')}"
    assert isinstance(answer, bytes if plain else dict)
    made = answer if isinstance(answer, bytes) else JSONResponse(answer).body
    return re.sub(rb'"created":\d+', b'"created":0', bytes(made))


@pytest.mark.fast
@pytest.mark.parametrize("body", WHOLE.values(), ids=WHOLE)
def test_a_plain_answer_has_the_bytes_of_vllms_own(
    running: Running, body: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    runner, engine, gate = running
    runner.run(whole(engine, body, plain=True))  # then both find the prompt in the cache
    own = runner.run(whole(engine, body, plain=True))
    by_the_handler_alone(engine, monkeypatch)
    assert own == runner.run(whole(engine, body, plain=False))
    assert gate.in_flight == 0


@pytest.mark.parametrize("name", ["more than fits", "more than fits a chat"])
def test_a_maximum_above_what_the_context_leaves_is_lowered(running: Running, name: str) -> None:
    runner, engine, _ = running
    given = runner.run(whole(engine, WHOLE[name], plain=engine.model.client == "fast"))
    assert isinstance(given, bytes), given
    answer = json.loads(given)
    assert [each["finish_reason"] for each in answer["choices"]] == ["length"]
    assert answer["usage"]["total_tokens"] == 512


def told(parts: list[bytes]) -> tuple[str, Any]:
    """The text of a chat's events, and the usage in the last one."""
    events = [json.loads(line[6:]) for line in b"".join(parts).split(b"\n\n")[:-2]]
    texts = [choice["delta"]["content"] for e in events for choice in e["choices"]]
    return "".join(texts), events[-1]["usage"]


@pytest.mark.fast
def test_what_a_slow_client_does_not_take_is_put_together(running: Running) -> None:
    runner, engine, _ = running
    body = CHAT | {"stream_options": {"include_usage": True}}
    quick, slow = Recorder(), Recorder(held=1)
    runner.run(streamed(engine, body, quick))
    runner.run(streamed(engine, body, slow))
    assert len(slow.parts) < len(quick.parts)
    assert told(slow.parts) == told(quick.parts)


class Lagging(Recorder):
    """A writer at whose third part the event loop stands still."""

    def write(self, part: bytes) -> None:
        super().write(part)
        if len(self.parts) == 3:
            time.sleep(0.5)


@pytest.mark.fast
def test_steps_that_come_while_the_loop_lags_are_put_together(running: Running) -> None:
    runner, engine, _ = running
    body = CHAT | {"max_tokens": 300, "ignore_eos": True}
    body |= {"stream_options": {"include_usage": True}}
    prompt, lagging = Recorder(), Lagging()
    runner.run(streamed(engine, body, prompt))
    runner.run(streamed(engine, body, lagging))
    assert len(lagging.parts) < len(prompt.parts)
    assert told(lagging.parts) == told(prompt.parts)


@pytest.mark.fast
def test_vllm_counts_what_its_processor_does_not_see(running: Running) -> None:
    runner, engine, _ = running

    def counted(name: str) -> float:
        return sum(
            sample.value
            for family in REGISTRY.collect()
            for sample in family.samples
            if sample.name == f"vllm:{name}"
        )

    names = ("generation_tokens_total", "inter_token_latency_seconds_count")
    before = [counted(name) for name in names]
    runner.run(streamed(engine, CHAT | {"max_tokens": 50, "ignore_eos": True}, Recorder()))
    assert [counted(name) - was for name, was in zip(names, before, strict=True)] == [50, 49]


@pytest.mark.cpu
def test_what_the_worker_computes_counts_for_its_engine(running: Running) -> None:
    _, engine, _ = running
    (worker,) = named("Worker", psutil.Process().children(recursive=True))
    assert engine.vitals() == read_vitals([*engine._engine._pids])
    try:
        worker.send_signal(signal.SIGSTOP)
        wait_until(lambda: bool((seen := engine.vitals()) and seen.stopped), 300, "the stop")
    finally:
        worker.send_signal(signal.SIGCONT)


@pytest.mark.cpu
@pytest.mark.parametrize(
    ("name", "value"), [("OMP_NUM_THREADS", "3"), ("LD_PRELOAD", "other.so"), ("MALLOC_ARENA", "")]
)
def test_a_process_that_needs_other_libraries_or_threads_starts_anew(
    running: Running, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    for variable in seed.variables_read_at_start():
        monkeypatch.delenv(variable)
    assert utils.get_mp_context().get_start_method() == "forkserver"
    monkeypatch.setenv(name, value)
    assert utils.get_mp_context() is get_context("spawn")


@pytest.mark.cpu
def test_the_variables_of_a_child_are_those_of_its_parent_when_it_started(
    running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OF_THE_PARENT", "1")
    found = tmp_path / "found"
    process = utils.get_mp_context().Process(target=_write_variables, args=(found,))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert found.read_text() == "1"


def _write_variables(file: Path) -> None:
    file.write_text(os.environ["OF_THE_PARENT"])
