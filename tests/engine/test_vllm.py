"""The contract of engines for vLLM, in this process with the one-layer model."""

import asyncio
import json
import os
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
from vllm.inputs import tokens_input
from vllm.outputs import CompletionOutput, RequestOutput
from vllm.sampling_params import RequestOutputKind, SamplingParams
from vllm.v1.engine import EngineCoreRequestType, utils

from loadtests.processes import wait_until
from service.context import enter_context, internal_context
from service.engine.contract import Job, Part, Sampling
from service.errors import ConfigurationError, DeadlineExceeded, InvalidRequest
from service.generation.fold import Fold
from service.settings import section as platform
from service.vllm.cpu import forkserver as seed
from service.vllm.process import read_vitals
from service.vllm.self_check import paths, warm_up
from service.vllm.served import VllmModel
from tests.engine.asked_routes import Recorder, ask, asked
from tests.engine.contract import CONTRACT, uphold
from tests.engine.in_process import Running, engine_of, llm_of, running_engine
from tests.served.server import named

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
    runner, engine, admission = running
    runner.run(uphold(check, engine, admission))


def test_vllm_takes_every_path_of_warm_up_that_its_slots_allow(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner, engine, admission = running
    monkeypatch.setattr(platform, "installed", lambda: platform.CUDA)
    answered: list[SamplingParams] = []
    llm = llm_of(engine)
    generate = llm.generate

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

    monkeypatch.setattr(llm, "generate", noting)
    monkeypatch.setattr(admission, "acquire", None)  # which would take compiling for slowness
    runner.run(warm_up(llm))
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
    """vLLM's parameters of an answer that comes in one output."""
    kind = RequestOutputKind.FINAL_ONLY
    return SamplingParams(**DRAWN | options, output_kind=kind, skip_clone=True)


def logprobs_of(answer: CompletionOutput | Part) -> dict[tuple[int, int], float]:
    """Log-probabilities by place and token."""
    places = enumerate(answer.logprobs or [])
    return {(n, token): each.logprob for n, place in places for token, each in place.items()}


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

    llm, prompt = llm_of(engine), PROMPT["prompt_token_ids"]

    async def both() -> tuple[RequestOutput, Fold]:
        enter_context(internal_context("whole", 600.0))
        (drawn,) = [each async for each in llm.generate(PROMPT, whole_answer(), "drawn")]
        third = engine.decode(drawn.outputs[0].token_ids[3:4])
        if "stop" in options:
            options["stop"] = [stop.format(third=third) for stop in options["stop"]]
        params = whole_answer(**options)
        (final,) = [each async for each in llm.generate(PROMPT, params, "final")]
        fold = Fold(params.n, details=True)
        await engine.run(Job(prompt, Sampling(**DRAWN | options)), fold)
        return final, fold

    final, fold = runner.run(both())
    for got, wanted in zip(fold.whole(), final.outputs, strict=True):
        assert (got.index, got.text) == (wanted.index, wanted.text)
        assert list(got.token_ids) == list(wanted.token_ids)
        assert (got.finish_reason, got.stop_reason) == (wanted.finish_reason, wanted.stop_reason)
        # Other rows of the batch change the last digit.
        assert logprobs_of(got) == pytest.approx(logprobs_of(wanted), abs=1e-4)
    assert fold.prompt_logprobs == final.prompt_logprobs
    assert fold.first is not None
    assert fold.first.prompt_tokens == len(final.prompt_token_ids)
    assert fold.first.engine_wait is not None
    if "stop" in options:
        assert fold.whole()[0].stop_reason == options["stop"][0]


async def take(engine: VllmModel, body: dict[str, Any]) -> None:
    """Take a whole answer of the engine, or of a route where there is a body."""
    if body:
        await ask(engine, {"max_tokens": 200, "ignore_eos": True} | body)
        return
    sampling = Sampling(**DRAWN | {"max_tokens": 200}, ignore_eos=True)
    await engine.run(Job(PROMPT["prompt_token_ids"], sampling), Fold())


WAYS = pytest.mark.parametrize(
    "body",
    [{}, {"prompt": PROMPT["prompt_token_ids"]}, {"messages": [TALK]}],
    ids=["engine", "completion", "chat"],
)


@WAYS
def test_a_whole_answer_that_ends_early_has_used_its_tokens(
    running: Running, body: dict[str, Any]
) -> None:
    runner, engine, admission = running
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
    assert admission.in_flight == 0
    assert context.tokens.prompt == 300 or ("messages" in body and context.tokens.prompt)
    assert 0 < context.tokens.completion < 200


@WAYS
def test_a_whole_answer_ends_at_its_deadline(running: Running, body: dict[str, Any]) -> None:
    runner, engine, admission = running

    async def wait() -> None:
        enter_context(internal_context("late", 0.02))
        await take(engine, body)

    with pytest.raises(DeadlineExceeded):
        runner.run(wait())
    assert admission.in_flight == 0


def test_sampling_that_vllm_refuses_is_an_invalid_request(running: Running) -> None:
    runner, engine, admission = running

    async def refused() -> None:
        enter_context(internal_context("greedy", 600.0))
        sampling = Sampling(max_tokens=1, n=2, temperature=0.0)
        await engine.run(Job([1, 2], sampling), Fold(2))

    with pytest.raises(InvalidRequest, match="greedy"):
        runner.run(refused())
    assert admission.in_flight == 0


CHAT: dict[str, Any] = {"messages": [TALK]}
HOT = {"temperature": 2.0, "seed": 5, "max_tokens": 200}
STREAMED: dict[str, Any] = {"stream": True, "max_tokens": 40, "temperature": 0.0}
USAGE = {"stream_options": {"include_usage": True}}


@pytest.mark.fast
def test_a_stop_string_ends_the_request_in_the_engine_too(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner, engine, _ = running
    core = llm_of(engine).engine_core
    send, aborted = core._send_input, []

    def note(kind: EngineCoreRequestType, request: Any, *more: Any) -> Any:
        if kind is EngineCoreRequestType.ABORT:
            aborted.append(request)
        return send(kind, request, *more)

    monkeypatch.setattr(core, "_send_input", note)
    monkeypatch.setattr(llm_of(engine), "add_request", None)  # vLLM's own way
    body = STREAMED | CHAT | HOT | {"stop": ["th", "er", "an", "in", "on", "re"]}
    events = runner.run(asked(engine, body))
    assert b'"finish_reason":"stop"' in events
    ((ended,),) = aborted
    assert ended.startswith("plain")


@pytest.mark.parametrize(
    "body",
    [
        {"prompt": list(range(500)), "max_tokens": 512, "ignore_eos": True},
        CHAT | {"max_completion_tokens": 512, "ignore_eos": True},
        CHAT | {"ignore_eos": True, "temperature": 0.0, "max_tokens": 10**6},
    ],
    ids=["completion", "chat", "more than the context"],
)
def test_a_maximum_above_what_the_context_leaves_is_lowered(
    running: Running, body: dict[str, Any]
) -> None:
    runner, engine, _ = running
    answer = json.loads(runner.run(asked(engine, body)))
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
    body = STREAMED | CHAT | USAGE
    quick, slow = Recorder(), Recorder(held=1)
    runner.run(asked(engine, body, quick))
    runner.run(asked(engine, body, slow))
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
    body = STREAMED | CHAT | USAGE | {"max_tokens": 300, "ignore_eos": True}
    prompt, lagging = Recorder(), Lagging()
    runner.run(asked(engine, body, prompt))
    runner.run(asked(engine, body, lagging))
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
    runner.run(asked(engine, STREAMED | CHAT | {"max_tokens": 50, "ignore_eos": True}))
    assert [counted(name) - was for name, was in zip(names, before, strict=True)] == [50, 49]


@pytest.mark.cpu
def test_what_the_worker_computes_counts_for_its_engine(running: Running) -> None:
    _, engine, _ = running
    # Another server may run below the same process.
    workers = named("Worker", psutil.Process().children(recursive=True))
    (worker,) = (each for each in workers if each.pid in engine_of(engine)._pids)
    assert engine.vitals() == read_vitals([*engine_of(engine)._pids])
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
