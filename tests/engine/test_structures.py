"""Structures are tried before the gate, in processes with limits of their own."""

import asyncio
import itertools
import json
import string
from collections.abc import AsyncGenerator
from dataclasses import replace

import psutil
import pytest
import pytest_asyncio
from vllm.sampling_params import SamplingParams, StructuredOutputsParams
from xgrammar import TokenizerInfo

from service.context import current_context, enter_context, internal_context
from service.errors import InvalidRequest, ServiceError, Unavailable, UnsupportedFeature
from service.settings.preparation import PreparationSettings
from service.tenants.tenant import Tenant
from service.vllm_engine.structured_outputs import tried
from service.vllm_engine.structures import Compilation, StructureTrials
from tests.gate.test_gate import gate_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

TOKENS = TokenizerInfo(
    [*string.printable, *("".join(p) for p in itertools.product("ab", repeat=5))]
)
SETTINGS = PreparationSettings(structure_ms=400, structure_mib=64)


def exploding(properties: int) -> str:
    """A schema of a few kilobytes that takes minutes, or gigabytes, to compile."""
    names = ["".join(pair) for pair in itertools.product(string.ascii_letters, repeat=2)]
    return json.dumps(
        {
            "type": "object",
            "properties": {name: {} for name in names[:properties]},
            "minProperties": properties * 2 // 5,
            "maxProperties": properties * 4 // 5,
        }
    )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def opened() -> AsyncGenerator[StructureTrials, None]:
    """Trials that tests share: their program takes two seconds to load."""
    opened = StructureTrials(gate_of(1)[0], SETTINGS)
    opened.begin()
    await opened.open(TOKENS.serialize_json(), any_whitespace=True)
    yield opened
    opened.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def trials(opened: StructureTrials) -> StructureTrials:
    enter_context(internal_context("test", 60.0))
    return opened


async def test_what_compiles_passes(trials: StructureTrials) -> None:
    integer = '{"type": "object", "properties": {"a": {"type": "integer"}}}'
    await trials.check(Compilation("json", integer))
    await trials.check(Compilation("json", '{"oneOf": [{"type": "null"}, {"type": "string"}]}'))
    await trials.check(Compilation("regex", "[a-z]{1,20}"))
    await trials.check(Compilation("grammar", 'root ::= "yes" | "no"'))


async def test_what_explodes_is_refused_and_leaves_nothing(trials: StructureTrials) -> None:
    for _ in range(2):  # the second time from memory
        with pytest.raises(InvalidRequest, match=r"more than (400 ms|64 MiB)") as refused:
            await trials.check(Compilation("json", exploding(600)))
        assert refused.value.code == "structure_too_large"
    await trials.check(Compilation("json", "{}"))
    assert all(not lane.children() for lane in _program(trials).children())


async def test_the_memory_is_bounded() -> None:
    enter_context(internal_context("test", 120.0))
    patient = replace_settings(structure_ms=60_000, structure_mib=32)
    opened = StructureTrials(gate_of(1)[0], patient)
    opened.begin()
    await opened.open(TOKENS.serialize_json(), any_whitespace=True)
    with pytest.raises(InvalidRequest, match="more than 32 MiB"):
        await opened.check(Compilation("json", exploding(700)))
    opened.stop()


async def test_what_is_refused_is_said_in_the_compilers_words(trials: StructureTrials) -> None:
    for kind, text, said in (
        ("regex", "(a", "parenthesis is not closed"),
        ("json", '{"type": "array", "items": []}', "^structured output: items must"),
        ("grammar", "root ::= other", "other"),
    ):
        with pytest.raises(InvalidRequest, match=said) as refused:
            await trials.check(Compilation(kind, text))
        assert "/project" not in refused.value.message
    counted = Compilation("json", '{"type": "string", "pattern": "a{129}"}')
    with pytest.raises(UnsupportedFeature, match="more than 128 times") as broken:
        await trials.check(counted)
    assert "Check failed" not in broken.value.message
    overlapping = '{"oneOf": [{"type": "integer"}, {"type": "number"}]}'
    with pytest.raises(UnsupportedFeature, match="oneOf with overlapping"):
        await trials.check(Compilation("json", overlapping))


async def test_one_tenants_structures_do_not_keep_another_waiting(trials: StructureTrials) -> None:
    here = current_context()

    async def check_as(tenant: str, text: str) -> str:
        enter_context(replace(here, tenant=Tenant(tenant)))
        try:
            await trials.check(Compilation("json", text))
        except InvalidRequest:
            return f"{tenant} refused"
        return tenant

    ended: list[str] = []
    asked = [check_as("a", exploding(600 + number)) for number in range(4)]
    asked.append(check_as("b", "{}"))
    for done in asyncio.as_completed(asked):
        ended.append(await done)
    assert ended[0] == "b"
    assert ended.count("a refused") == 4


async def test_it_is_started_again_when_it_has_ended(trials: StructureTrials) -> None:
    for process in [_program(trials), *_program(trials).children(recursive=True)]:
        process.kill()
    untried = Compilation("json", '{"const": "again"}')
    with pytest.raises(Unavailable):
        await trials.check(untried)
    await trials.check(untried)


async def _stream() -> AsyncGenerator[str, None]:
    yield "output"


async def test_a_request_goes_on_when_its_structure_compiles(trials: StructureTrials) -> None:
    structure = StructuredOutputsParams(choice=["yes", 'no "thanks"'])
    params = SamplingParams(structured_outputs=structure)
    assert [item async for item in tried(trials, params, _stream())] == ["output"]
    # The form in which vLLM's own validation leaves the request.
    assert structure.choice is None
    assert structure.grammar == 'root ::= "yes" | "no \\"thanks\\""'
    assert structure._backend == "xgrammar"


async def test_a_request_is_refused_before_the_engine_sees_it(trials: StructureTrials) -> None:
    for structure in (
        StructuredOutputsParams(json=exploding(600)),
        StructuredOutputsParams(json={"type": "array", "uniqueItems": True}),
        StructuredOutputsParams(regex="(a"),
    ):
        stream, params = _stream(), SamplingParams(structured_outputs=structure)
        with pytest.raises(ServiceError):
            await anext(tried(trials, params, stream))
        with pytest.raises(StopAsyncIteration):  # it was closed before its first item
            await anext(stream)


def replace_settings(**changed: int) -> PreparationSettings:
    return PreparationSettings(**{**SETTINGS.model_dump(), **changed})


def _program(trials: StructureTrials) -> psutil.Process:
    assert trials._program is not None
    return psutil.Process(trials._program.pid)
