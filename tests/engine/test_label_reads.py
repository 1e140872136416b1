"""Label reads beside requests of the same parameters that vLLM's own client makes."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY
from vllm.inputs import tokens_input
from vllm.v1.engine import EngineCoreOutput, FinishReason
from vllm.v1.engine.exceptions import EngineDeadError
from vllm.v1.metrics.stats import IterationStats

from service.context import enter_context, internal_context
from service.errors import EngineDead, InvalidRequest
from service.vllm.fast.engine import FastEngine
from service.vllm.served import VllmModel
from service.vllm.stock import read_parameters
from tests.engine.in_process import Running, engine_of, llm_of, running_engine

PROMPT = list(range(100, 180))
TOKENS = (7, 3, 5000, 11)


@pytest.fixture(scope="module")
def running(tiny_folder: Path) -> Iterator[Running]:
    with running_engine(tiny_folder, sequences=4) as engine:
        yield engine


async def read(engine: VllmModel, prompt: list[int] = PROMPT) -> list[float]:
    enter_context(internal_context("read", 600.0))
    return list((await engine.label_logprobs(prompt, TOKENS, None)).logprobs)


async def read_by_vllm(engine: VllmModel) -> list[float]:
    outputs = llm_of(engine).generate(tokens_input(PROMPT), read_parameters(TOKENS), "vllms-own")
    async for output in outputs:
        (found,) = output.outputs[0].logprobs
    return [found[token].logprob for token in TOKENS]


def test_a_read_gives_the_numbers_that_vllms_client_gives(running: Running) -> None:
    runner, engine, _ = running
    assert runner.run(read(engine)) == runner.run(read_by_vllm(engine))


def counted() -> Counter[tuple[str, str]]:
    """vLLM's series that count, without times, which differ."""
    return Counter(
        {
            (sample.name, str(sample.labels)): sample.value
            for family in REGISTRY.collect()
            for sample in family.samples
            if sample.name.startswith("vllm:")
            and sample.name.endswith(("_total", "_count"))
            and "step" not in sample.name
        }
    )


def test_vllms_series_count_a_read_as_they_count_its_clients_request(running: Running) -> None:
    runner, engine, _ = running
    before = counted()
    runner.run(read_by_vllm(engine))
    between = counted()
    runner.run(read(engine))
    after = counted()
    assert after - between == between - before
    names = {name for name, _ in after - between}
    assert {"vllm:request_success_total", "vllm:time_to_first_token_seconds_count"} <= names


def _own(engine: VllmModel) -> dict[str, Any]:
    """The requests whose states the service keeps, by name."""
    fast = engine_of(engine)
    assert isinstance(fast, FastEngine)
    return dict(fast._dispatcher._own)


async def begun(engine: VllmModel) -> tuple[asyncio.Task[list[float]], str]:
    """A read that the engine has, and its name there."""
    reading = asyncio.create_task(read(engine))
    for _ in range(100):
        if _own(engine):
            break
        await asyncio.sleep(0)
    (name,) = _own(engine)
    return reading, name


def test_a_read_that_is_cancelled_leaves_nothing_behind(running: Running) -> None:
    runner, engine, admission = running

    async def cancel() -> None:
        reading, _ = await begun(engine)
        reading.cancel()
        await asyncio.wait([reading])

    runner.run(cancel())
    assert not _own(engine)
    assert admission.in_flight == 0
    assert runner.run(read(engine))


def test_reads_end_with_their_engine(running: Running) -> None:
    runner, engine, admission = running

    async def lose() -> None:
        reading, _ = await begun(engine)
        llm_of(engine).output_processor.propagate_error(EngineDeadError())
        await reading

    with pytest.raises(EngineDead):
        runner.run(lose())
    assert admission.in_flight == 0


def test_an_engine_that_fails_at_a_read_is_an_error_that_may_be_tried_again(
    running: Running,
) -> None:
    runner, engine, admission = running

    async def fail() -> None:
        reading, name = await begun(engine)
        output = EngineCoreOutput(name, [], finish_reason=FinishReason.ERROR)
        llm_of(engine).output_processor.process_outputs([output], 1.0, IterationStats())
        await reading

    with pytest.raises(EngineDead):
        runner.run(fail())
    assert admission.in_flight == 0


@pytest.mark.parametrize("length", [0, 513])
def test_a_prompt_that_does_not_fit_is_refused(running: Running, length: int) -> None:
    runner, engine, _ = running
    with pytest.raises(InvalidRequest):
        runner.run(read(engine, [5] * length))


def test_tokens_that_the_model_does_not_have_are_refused(running: Running) -> None:
    runner, engine, _ = running

    async def ask() -> None:
        enter_context(internal_context("read", 600.0))
        await engine.label_logprobs(PROMPT, (10**6,), None)

    with pytest.raises(InvalidRequest):
        runner.run(ask())
