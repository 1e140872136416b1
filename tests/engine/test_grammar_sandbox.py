"""Structures are compiled and walked before admission, in processes with limits of their own."""

import asyncio
import itertools
import json
import string
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio
from xgrammar import TokenizerInfo

from service.context import current_context, enter_context, internal_context
from service.engine.contract import Sampling, Structure
from service.errors import InvalidRequest, ServiceError, Unavailable, UnsupportedFeature
from service.settings.admission import PreparationSettings
from service.tenants.tenant import Tenant
from service.vllm.conversion import sampling_params
from service.vllm.patches.mask_budget import TOO_DEAR
from service.vllm.structured_outputs import Compilation, GrammarSandbox, VllmStructures
from tests.admission.test_controller import admission_of

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
async def opened() -> AsyncGenerator[GrammarSandbox, None]:
    """A sandbox that tests share: its program takes two seconds to load."""
    opened = GrammarSandbox(admission_of(1)[0], SETTINGS)
    opened.begin()
    await opened.open(TOKENS.serialize_json(), any_whitespace=True)
    yield opened
    opened.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def sandbox(opened: GrammarSandbox) -> GrammarSandbox:
    enter_context(internal_context("test", 60.0))
    return opened


async def test_what_compiles_passes(sandbox: GrammarSandbox) -> None:
    integer = '{"type": "object", "properties": {"a": {"type": "integer"}}}'
    await sandbox.check(Compilation("json", integer))
    await sandbox.check(Compilation("json", '{"oneOf": [{"type": "null"}, {"type": "string"}]}'))
    await sandbox.check(Compilation("regex", "[a-z]{1,20}"))
    await sandbox.check(Compilation("grammar", 'root ::= "yes" | "no"'))


async def test_what_explodes_is_refused_and_leaves_nothing(sandbox: GrammarSandbox) -> None:
    for _ in range(2):  # the second time from memory
        with pytest.raises(InvalidRequest, match=r"more than (400 ms|64 MiB)") as refused:
            await sandbox.check(Compilation("json", exploding(600)))
        assert refused.value.code == "structure_too_large"
    await sandbox.check(Compilation("json", "{}"))
    assert all(not lane.children() for lane in _program(sandbox).children())


async def test_the_memory_is_bounded() -> None:
    enter_context(internal_context("test", 120.0))
    patient = replace_settings(structure_ms=60_000, structure_mib=32)
    opened = GrammarSandbox(admission_of(1)[0], patient)
    opened.begin()
    await opened.open(TOKENS.serialize_json(), any_whitespace=True)
    with pytest.raises(InvalidRequest, match="more than 32 MiB"):
        await opened.check(Compilation("json", exploding(700)))
    opened.stop()


async def test_what_is_refused_is_said_in_the_compilers_words(sandbox: GrammarSandbox) -> None:
    for kind, text, said in (
        ("regex", "(a", "parenthesis is not closed"),
        ("json", '{"type": "string", "pattern": "("}', "not a valid schema"),
        ("grammar", "root ::= other", "other"),
    ):
        with pytest.raises(InvalidRequest, match=said) as refused:
            await sandbox.check(Compilation(kind, text))
        assert "/project" not in refused.value.message
    with pytest.raises(UnsupportedFeature, match=r"cannot enforce \$ref to '#/none', at its root"):
        await sandbox.check(Compilation("json", '{"$ref": "#/none"}'))


async def test_what_a_schemas_grammar_leaves_out_is_named(sandbox: GrammarSandbox) -> None:
    overlapping = '{"oneOf": [{"type": "integer"}, {"type": "number"}]}'
    checked = await sandbox.check(Compilation("json", overlapping))
    assert (checked.kind, checked.unenforced) == ("json", ("oneOf, at its root",))
    counted = Compilation("json", '{"type": "string", "pattern": "^a{129}$"}')
    checked = await sandbox.check(counted)
    assert (checked.kind, checked.unenforced) == ("grammar", ())
    assert checked.text.count("::=") > 129


async def test_one_tenants_structures_do_not_keep_another_waiting(sandbox: GrammarSandbox) -> None:
    here = current_context()

    async def check_as(tenant: str, text: str) -> str:
        enter_context(replace(here, tenant=Tenant(tenant)))
        try:
            await sandbox.check(Compilation("json", text))
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


async def test_it_is_started_again_when_it_has_ended(sandbox: GrammarSandbox) -> None:
    for process in [_program(sandbox), *_program(sandbox).children(recursive=True)]:
        process.kill()
    untried = Compilation("json", '{"const": "again"}')
    with pytest.raises(Unavailable):
        await sandbox.check(untried)
    await sandbox.check(untried)


async def compiled(sandbox: GrammarSandbox, structure: Structure) -> Any:
    """The structure as vLLM takes it."""
    async with VllmStructures(sandbox).compiled(Sampling(9, structure=structure)) as made:
        return sampling_params(made).structured_outputs


async def test_a_request_goes_on_when_its_structure_compiles(sandbox: GrammarSandbox) -> None:
    structure = await compiled(sandbox, Structure(choice=["yes", 'no "thanks"']))
    # The form in which vLLM's own validation leaves the request.
    assert structure.choice is None
    assert structure.grammar == 'root ::= "yes" | "no \\"thanks\\""'
    assert structure._backend == "xgrammar"


async def test_a_request_is_refused_before_the_engine_sees_it(sandbox: GrammarSandbox) -> None:
    for structure in (
        Structure(json_schema=json.loads(exploding(600))),
        Structure(json_schema={"$ref": "https://example.org/x"}),
        Structure(regex="(a"),
    ):
        began, asked = False, Sampling(max_tokens=9, structure=structure)
        with pytest.raises(ServiceError):
            async with VllmStructures(sandbox).compiled(asked):
                began = True
        assert not began


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def large(smollm2_folder: Path) -> AsyncGenerator[GrammarSandbox, None]:
    """A sandbox with a real model's tokens, on which the time of masks depends."""
    from transformers import AutoTokenizer

    tokens = TokenizerInfo.from_huggingface(AutoTokenizer.from_pretrained(smollm2_folder))
    # These structures take the default five seconds to compile where a core is slow.
    opened = GrammarSandbox(admission_of(1)[0], PreparationSettings(structure_ms=30_000))
    opened.begin()
    await opened.open(tokens.serialize_json(), any_whitespace=True)
    enter_context(internal_context("test", 600.0))
    yield opened
    opened.stop()


def branching(*branches: dict[str, Any]) -> dict[str, Any]:
    """A schema whose text may go on in each of these branches at each level."""
    node = {"anyOf": [{"items": {"$ref": "#/$defs/t"}} | each for each in branches]}
    properties = {"a": {"$ref": "#/$defs/t"}, "b": {"type": "string"}}
    return {
        **{"$defs": {"t": node}, "type": "object", "properties": properties},
        **{"required": ["a", "b"], "additionalProperties": False},
    }


DEAR = branching(*({"maxItems": 100 + number} for number in range(100)))
"""A schema whose first mask is cheap, and the second takes tenths of a second."""


async def test_a_dear_mask_after_the_first_is_refused_with_its_place(
    large: GrammarSandbox,
) -> None:
    enter_context(internal_context("test", 600.0))
    with pytest.raises(InvalidRequest, match=r"allows next at /\S+ takes more than 20 ms") as found:
        await large.check(Compilation("json", json.dumps(DEAR)))
    assert found.value.code == "structure_too_large"


async def test_a_dear_tool_is_named(large: GrammarSandbox) -> None:
    enter_context(internal_context("test", 600.0))
    tags = [
        {
            **{"type": "tag", "begin": f"<tool_call>{name}", "end": "</tool_call>"},
            "content": {"type": "json_schema", "json_schema": schema},
        }
        for name, schema in (("light", {"type": "object"}), ("dear", DEAR))
    ]
    frame = {"type": "triggered_tags", "triggers": ["<tool_call>"], "tags": tags}
    tag = json.dumps({"type": "structural_tag", "format": frame})
    with pytest.raises(InvalidRequest, match=r"allows next at /<tool_call>dear takes more"):
        await large.check(Compilation("structural_tag", tag))


@pytest.mark.parametrize(
    ("kind", "text", "said"),
    [
        ("json", {"$ref": "#"}, "no text can"),
        ("regex", "[^\\x00-\\U0010ffff]", "no text can"),
        ("regex", "yes[^\\x00-\\U0010ffff]", "no text after 'yes' can"),
    ],
)
async def test_what_no_text_completes_is_refused(
    large: GrammarSandbox, kind: str, text: Any, said: str
) -> None:
    enter_context(internal_context("test", 600.0))
    structure = Compilation(kind, text if kind == "regex" else json.dumps(text))
    with pytest.raises(InvalidRequest, match=said) as refused:
        await large.check(structure)
    assert refused.value.code == "structure_dead_end"


async def test_what_was_too_dear_in_the_engine_is_refused_for_all(
    sandbox: GrammarSandbox,
) -> None:
    asked = Sampling(max_tokens=9, structure=Structure(regex="[ab]{1,7}"))
    with pytest.raises(InvalidRequest):
        async with VllmStructures(sandbox).compiled(asked):
            raise InvalidRequest("structured output: it takes too long", code=TOO_DEAR)
    enter_context(replace(current_context(), tenant=Tenant("another")))
    with pytest.raises(InvalidRequest, match="it takes too long"):
        await sandbox.check(Compilation("regex", "[ab]{1,7}"))
    await sandbox.check(Compilation("regex", "[ab]{1,8}"))


def replace_settings(**changed: int) -> PreparationSettings:
    return PreparationSettings(**{**SETTINGS.model_dump(), **changed})


def _program(sandbox: GrammarSandbox) -> psutil.Process:
    assert sandbox._program is not None
    return psutil.Process(sandbox._program.pid)
