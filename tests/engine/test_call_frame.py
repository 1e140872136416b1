"""The grammar of calls that a model may make, and what holds where a schema is none for a grammar.

The parser, the requests and the compiler are those that serve; no engine runs.
"""

import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import xgrammar
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.sampling_params import SamplingParams

from service.context import enter_context, internal_context
from service.engine.contract import Sampling, Structure
from service.errors import UnsupportedFeature
from service.settings.admission import PreparationSettings
from service.vllm.patches.parsers import mended
from service.vllm.structured_outputs import GrammarSandbox, VllmStructures
from service.vllm.tool_parsers import parser_for
from tests.admission.test_controller import admission_of
from tests.engine.test_grammar_sandbox import exploding
from tests.engine.test_tools import LIGHT, NAMED, TOOLS, function

pytestmark = pytest.mark.asyncio(loop_scope="module")

LAMP = '{"room": "kitchen", "on": true}'
ODD = function("count", "Count", number={"type": "integer", "not": {"const": 3}})
LARGE = {
    "type": "function",
    "function": {"name": "large", "parameters": json.loads(exploding(600))},
}
FORMAT = {
    "type": "json_schema",
    "json_schema": {"name": "answer", "schema": {"enum": ["yes", "no"]}},
}


@pytest.fixture(scope="module")
def tokenizer(smollm2_folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(smollm2_folder)


@pytest.fixture(scope="module")
def tokens(tokenizer: Any) -> xgrammar.TokenizerInfo:
    return xgrammar.TokenizerInfo.from_huggingface(tokenizer)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def opened(tokens: xgrammar.TokenizerInfo) -> AsyncGenerator[GrammarSandbox, None]:
    opened = GrammarSandbox(admission_of(1)[0], PreparationSettings(structure_ms=8000))
    opened.begin()
    await opened.open(tokens.serialize_json(), any_whitespace=True)
    yield opened
    opened.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def sandbox(opened: GrammarSandbox) -> GrammarSandbox:
    enter_context(internal_context("test", 600.0))
    return opened


def rendered(tokenizer: Any, level: str = "parameter", **body: Any) -> SamplingParams:
    """The sampling parameters of a chat, as vLLM's handler makes them."""
    parser = mended(
        parser_for(
            tokenizer, tool_parser_name="hermes", enable_auto_tools=True, tool_strict_level=level
        )
    )
    assert parser is not None
    chat = {"model": "m", "messages": [{"role": "user", "content": "?"}], "tools": TOOLS} | body
    request = ChatCompletionRequest(**chat)
    adjusted = parser(tokenizer, request.tools).adjust_request(request)
    params: SamplingParams = adjusted.to_sampling_params(64, {})
    return params


async def compile_for(sandbox: GrammarSandbox, params: SamplingParams) -> None:
    """Give the parameters their structure as the engine takes it."""
    compiled, _ = await VllmStructures(sandbox).compile(params.structured_outputs)
    params.structured_outputs = compiled and compiled.params


async def refused(sandbox: GrammarSandbox, params: SamplingParams, *, strict: bool) -> None:
    """The parameters' structure is refused, because it leaves a part of a strict schema out."""
    structure = Structure(own=params.structured_outputs, strict=strict)
    with pytest.raises(UnsupportedFeature, match="a grammar cannot enforce not, at /properties"):
        async with VllmStructures(sandbox).compiled(Sampling(9, structure=structure)):
            pass


def accepts(params: SamplingParams, tokens: xgrammar.TokenizerInfo, text: str) -> bool:
    """True if the structure lets an answer be this text and nothing more."""
    structure = params.structured_outputs
    if structure is None:
        return True
    compiler = xgrammar.GrammarCompiler(tokens)
    if structure.json is not None:
        grammar = compiler.compile_json_schema(json.dumps(structure.json))
    else:
        grammar = compiler.compile_structural_tag(structure.structural_tag)
    matcher = xgrammar.GrammarMatcher(grammar, terminate_without_stop_token=True)
    return bool(matcher.accept_string(text)) and matcher.is_completed()


def call(name: str, arguments: str) -> str:
    return f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'


async def test_an_answer_is_text_or_calls_that_keep_to_their_schemas(
    tokenizer: Any, tokens: xgrammar.TokenizerInfo, sandbox: GrammarSandbox
) -> None:
    params = rendered(tokenizer)
    await compile_for(sandbox, params)
    light = call("set_light", LAMP)
    for good in ("Hello!", light, light + call("get_weather", '{"city": "Oslo"}'), f"So: {light}"):
        assert accepts(params, tokens, good), good
    for bad in (
        call("set_lights", LAMP),
        call("set_light", '{"room": "attic", "on": true}'),
        call("set_light", '{"room": "kitchen"}'),
        call("get_weather", '{"city": "Oslo", "unit": "K"}'),
        light.removesuffix("}\n</tool_call>"),
    ):
        assert not accepts(params, tokens, bad), bad
    assert not params.structured_outputs.asked


async def test_one_call_alone_is_one(
    tokenizer: Any, tokens: xgrammar.TokenizerInfo, sandbox: GrammarSandbox
) -> None:
    params = rendered(tokenizer, parallel_tool_calls=False)
    await compile_for(sandbox, params)
    assert accepts(params, tokens, call("set_light", LAMP))
    assert not accepts(params, tokens, call("set_light", LAMP) * 2)


async def test_a_schema_that_costs_too_much_leaves_names_and_json(
    tokenizer: Any, tokens: xgrammar.TokenizerInfo, sandbox: GrammarSandbox
) -> None:
    params = rendered(tokenizer, tools=[LIGHT, LARGE])
    await compile_for(sandbox, params)
    name = "large"
    assert accepts(params, tokens, call(name, '{"number": 4, "more": [1]}'))
    assert accepts(params, tokens, "Hello!")
    for bad in (call("other", "{}"), call(name, "4"), call(name, '{"number": 4')):
        assert not accepts(params, tokens, bad), bad


async def test_a_strict_tool_that_cannot_be_held_is_refused_and_others_are_free_beside_one_that_can(
    tokenizer: Any, tokens: xgrammar.TokenizerInfo, sandbox: GrammarSandbox
) -> None:
    strict = {"function": {**ODD["function"], "strict": True}, "type": "function"}
    await refused(sandbox, rendered(tokenizer, tools=[LIGHT, strict]), strict=True)
    light = {"function": {**LIGHT["function"], "strict": True}, "type": "function"}
    params = rendered(tokenizer, tools=[light, ODD])
    assert params.structured_outputs.asked
    await compile_for(sandbox, params)
    assert accepts(params, tokens, call("count", '{"number": 4}'))
    assert not accepts(params, tokens, call("set_light", '{"room": "attic", "on": true}'))


async def test_beside_a_format_the_answer_is_a_call_or_in_the_format(
    tokenizer: Any, tokens: xgrammar.TokenizerInfo, sandbox: GrammarSandbox
) -> None:
    params = rendered(tokenizer, response_format=FORMAT)
    assert params.structured_outputs.asked
    await compile_for(sandbox, params)
    for good in ('"yes"', call("set_light", LAMP)):
        assert accepts(params, tokens, good), good
    assert not accepts(params, tokens, "Hello!")


async def test_a_strict_call_that_must_come_is_refused(
    tokenizer: Any, sandbox: GrammarSandbox
) -> None:
    for choice in ("required", NAMED | {"function": {"name": "count"}}):
        params = rendered(tokenizer, tools=[ODD], tool_choice=choice)
        await refused(sandbox, params, strict=True)
        await compile_for(sandbox, params)


async def test_the_operator_leaves_calls_free(tokenizer: Any) -> None:
    assert rendered(tokenizer, level="auto").structured_outputs is None
    assert rendered(tokenizer, tool_choice="none").structured_outputs is None
