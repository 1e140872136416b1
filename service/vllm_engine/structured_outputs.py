"""vLLM's structured outputs, compiled as a trial before the gate."""

import json
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import Any

from vllm.outputs import RequestOutput
from vllm.sampling_params import SamplingParams, StructuredOutputsParams
from vllm.v1.structured_output.request import get_structured_output_key
from vllm.v1.structured_output.utils import choice_as_grammar
from xgrammar import TokenizerInfo

from service.errors import InvalidRequest
from service.limits.enforced import check_enforced
from service.vllm_engine.arguments import BACKEND
from service.vllm_engine.call_frame import CallFrame
from service.vllm_engine.structures import Compilation, StructureTrials


async def tried(
    trials: StructureTrials,
    params: SamplingParams,
    stream: AsyncGenerator[RequestOutput, None],
) -> AsyncGenerator[RequestOutput, None]:
    """The stream of a request, once its structure is known to compile.

    Raises as `StructureTrials.check`.
    """
    async with aclosing(stream):
        await try_structure(trials, params)
        async for output in stream:
            yield output


async def try_structure(trials: StructureTrials, params: SamplingParams) -> None:
    """Validate a request's structure in a trial.

    vLLM's own validation, which would do it on the event loop, is turned off. A frame of calls that
    cannot be compiled gives way to the next looser one, or to none. Raises as
    `StructureTrials.check`.
    """
    structure = params.structured_outputs
    while isinstance(structure, CallFrame) and structure.looser is not None:
        looser, structure.looser = structure.looser, None
        try:
            return await _try(trials, structure)
        except InvalidRequest:
            params.structured_outputs = structure = looser()
    if structure is not None:
        await _try(trials, structure)


async def _try(trials: StructureTrials, structure: StructuredOutputsParams) -> None:
    if structure.choice is not None:
        structure.grammar, structure.choice = choice_as_grammar(structure.choice), None
    if structure.structural_tag is not None:
        structure.structural_tag = _with_bounds(structure.structural_tag)
    structure._backend = BACKEND
    if structure.json_object:
        return
    kind, text = get_structured_output_key(structure)
    if structure.json is not None:
        # A response format was checked before; a tool's parameters become a structure only now.
        check_enforced(json.loads(text), "tools")
    asked = not isinstance(structure, CallFrame)
    await trials.check(Compilation(kind.name.lower(), text, asked))


def _with_bounds(tag: str) -> str:
    """The frame of tools' calls, with single spaces in arguments instead of any number.

    Arguments without a schema are an object with any members. Raises UnsupportedFeature for a
    schema that cannot be enforced.
    """
    frame = json.loads(tag)
    for part in _schemas(frame):
        check_enforced(part["json_schema"], "tools")
        if part.get("style", "json") == "json":
            part["max_whitespace_cnt"] = 1
            if part["json_schema"] is True:
                part["json_schema"] = {"type": "object"}
    return json.dumps(frame)


def _schemas(part: Any) -> Iterator[dict[str, Any]]:
    if isinstance(part, dict) and part.get("type") == "json_schema":
        yield part
    elif isinstance(part, dict | list):
        for each in part.values() if isinstance(part, dict) else part:
            yield from _schemas(each)


async def open_trials(trials: StructureTrials, llm: Any) -> None:
    """Give the trials the tokens of the engine's model, as vLLM's own backend reads them."""
    tokens = TokenizerInfo.from_huggingface(
        llm.renderer.get_tokenizer(), vocab_size=llm.model_config.get_vocab_size()
    )
    compact = llm.vllm_config.structured_outputs_config.disable_any_whitespace
    await trials.open(tokens.serialize_json(), any_whitespace=not compact)


def leave_validation_to_us(llm: Any) -> None:
    """Keep vLLM from converting structures on the event loop again, which would take seconds."""
    llm.input_processor.structured_outputs_config = None
