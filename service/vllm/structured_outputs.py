"""vLLM's structured outputs, compiled and walked before the gate."""

import json
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from copy import copy
from dataclasses import replace
from typing import Any

from vllm.sampling_params import StructuredOutputsParams
from xgrammar import TokenizerInfo

from service.engine.protocol import Sampling
from service.errors import InvalidRequest
from service.limits.enforced import check_enforced
from service.limits.schema_shape import with_equal_merged
from service.vllm.arguments import BACKEND
from service.vllm.grammar_sandbox import Compilation, GrammarSandbox
from service.vllm.patches.call_frame import CallFrame
from service.vllm.patches.mask_budget import TOO_DEAR
from service.vllm.patches.structure_validation import without_special_tokens
from service.vllm.sampling import Compiled, structured_outputs

USES = ("reads vllm.sampling_params:StructuredOutputsParams._backend",)
"""What of vLLM this module stands on (docs/vllm.md)."""

_KINDS = ("json", "regex", "grammar", "structural_tag")
"""The kinds of structures that are compiled, in vLLM's order."""


def choice(texts: Sequence[str]) -> StructuredOutputsParams:
    """The structure of an answer that is one of these texts, in its checked form."""
    structure = StructuredOutputsParams(grammar=choice_as_grammar(texts))
    structure._backend = BACKEND
    return structure


def choice_as_grammar(texts: Sequence[str]) -> str:
    """A grammar, in GBNF, of answers that are one of these texts."""
    return "root ::= " + " | ".join(f'"{_escaped(text)}"' for text in texts)


def _escaped(text: str) -> str:
    """A text as it stands in a grammar's quotes; xgrammar ends a literal at a raw control."""
    return "".join(
        f"\\{each}"
        if each in '\\"'
        else f"\\u{ord(each):04x}"
        if ord(each) < 0x20 or ord(each) == 0x7F
        else each
        for each in text
    )


class VllmStructures:
    """Compiles structures in the sandbox; implements `engine.roles.Structures`.

    vLLM's own validation, which would compile on the event loop, is turned off.
    """

    def __init__(self, sandbox: GrammarSandbox) -> None:
        self._sandbox = sandbox

    @asynccontextmanager
    async def compiled(self, sampling: Sampling) -> AsyncIterator[Sampling]:
        """Compile a structure before a block that runs it; raises as `GrammarSandbox.check`.

        One that takes too long in the engine nevertheless is refused from then on.
        """
        structure = sampling.structure
        assert structure is not None
        own, checked = await self.compile(structured_outputs(structure))
        done = None if own is None else replace(structure, own=own)
        try:
            yield replace(sampling, structure=done)
        except InvalidRequest as error:
            if checked is not None and error.code == TOO_DEAR:
                self._sandbox.refuse(checked, error)
            raise

    async def compile(
        self, params: StructuredOutputsParams | None
    ) -> tuple[Compiled | None, Compilation | None]:
        """The structure as the engine takes it, and what was compiled of it.

        A frame of calls that cannot be compiled gives way to the next looser one, or to none.
        """
        while isinstance(params, CallFrame) and params.looser is not None:
            frame = copy(params)
            looser, frame.looser = params.looser, None
            try:
                return await self._compile(frame)
            except InvalidRequest:
                params = looser()
        return (None, None) if params is None else await self._compile(copy(params))

    async def _compile(
        self, structure: StructuredOutputsParams
    ) -> tuple[Compiled, Compilation | None]:
        if structure.choice is not None:
            structure.grammar, structure.choice = choice_as_grammar(structure.choice), None
        if structure.structural_tag is not None:
            structure.structural_tag = _with_bounds(structure.structural_tag)
        structure._backend = BACKEND
        if structure.json_object:
            return Compiled(structure, 0.0), None
        if structure.json is not None:
            schema = structure.json
            schema = json.loads(schema) if isinstance(schema, str) else schema
            # A response format was checked before; a tool's parameters become a structure only now.
            check_enforced(schema, "tools")
            structure.json = json.dumps(with_equal_merged(schema))
        kind = next(each for each in _KINDS if getattr(structure, each) is not None)
        asked = not isinstance(structure, CallFrame)
        checked = Compilation(kind, getattr(structure, kind), asked)
        return Compiled(structure, await self._sandbox.check(checked)), checked

    def stop(self) -> None:
        """End the sandbox."""
        self._sandbox.stop()


def _with_bounds(tag: str) -> str:
    """The frame of tools' calls, with single spaces in arguments instead of any number.

    Arguments without a schema are an object with any members. Raises UnsupportedFeature for a
    schema that cannot be enforced.
    """
    frame = json.loads(tag)
    for part in _schemas(frame):
        check_enforced(part["json_schema"], "tools")
        part["json_schema"] = with_equal_merged(part["json_schema"])
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


async def open_sandbox(sandbox: GrammarSandbox, llm: Any) -> None:
    """Give the sandbox the tokens of the engine's model, as vLLM's own backend reads them."""
    tokenizer = llm.renderer.get_tokenizer()
    tokens = TokenizerInfo.from_huggingface(tokenizer, vocab_size=llm.model_config.get_vocab_size())
    plain = without_special_tokens(tokenizer, tokens)
    compact = llm.vllm_config.structured_outputs_config.disable_any_whitespace
    await sandbox.open(
        tokens.serialize_json(),
        any_whitespace=not compact,
        plain_tokens=plain and plain.serialize_json(),
    )
