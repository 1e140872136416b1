"""vLLM's parsers look for thoughts that the prompt ended, read late marks twice, and lose calls.

And vLLM enforces no schema on a call that a model may but need not make, unless the tool is strict.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from vllm.parser import Parser
from vllm.parser.abstract_parser import DelegatingParser
from vllm.sampling_params import StructuredOutputsParams
from vllm.tool_parsers.hermes_tool_parser import Hermes2ProToolParser
from vllm.tool_parsers.tool_strict_level import ToolStrictLevel

from service.vllm.patches.vllm_0_31 import let_be_one

USES = (
    "calls vllm.entrypoints.openai.chat_completion.protocol:"
    "ChatCompletionRequest.extract_structured_outputs",
    "extends vllm.parser.abstract_parser:DelegatingParser.adjust_request, extract_reasoning, "
    "parse, parse_delta, set_prompt_token_ids",
    "reads vllm.parser.abstract_parser:DelegatingParser.reasoning_parser, tool_strict_level",
    "extends vllm.sampling_params:StructuredOutputsParams.structural_tag",
)

Level: TypeAlias = ToolStrictLevel | None
"""How strictly calls are held to their schemas; None, where vLLM has it, is the parser's own."""

Adjust = Callable[[Any, Level], Any]
"""A parser's `adjust_request` at a level of strictness."""


class CallFrame(StructuredOutputsParams):  # type: ignore[misc]
    """A grammar for tool calls that the request did not ask for, and that may be dropped.

    If the grammar cannot be compiled, `looser` makes the structure of the next lower level. `asked`
    is true if the request asked for some structure.
    """

    looser: Callable[[], StructuredOutputsParams | None] | None = None
    asked = False


def framed(request: Any, level: Level, adjust: Adjust) -> Any:
    """The request, with its optional tool calls constrained at this level or a lower one."""
    before = request.model_copy()
    adjusted = adjust(request, level)
    structure = adjusted.extract_structured_outputs()
    if not level or structure is None or structure.structural_tag is None:
        return adjusted

    def looser() -> StructuredOutputsParams | None:
        return framed(before, ToolStrictLevel(level - 1), adjust).extract_structured_outputs()

    strict = any(getattr(tool.function, "strict", None) for tool in before.tools)
    frame = CallFrame(structural_tag=structure.structural_tag)
    frame.looser = looser
    frame.asked = strict or before.extract_structured_outputs() is not None
    adjusted.structured_outputs = frame
    return adjusted


def mended(parser: type[Parser] | None) -> type[Parser] | None:
    """The parser with these four faults mended; None for None.

    A call that `tool_choice` demands keeps to its tool's schema, strict or not. A call that the
    model may make keeps to it as far as the operator's level says and a grammar can enforce it.

    If the prompt ends the thoughts, as templates do where thinking is switched off, a whole answer
    has none. Some of vLLM's parsers would take all of it for thoughts.

    In a stream the parser sees a token together with its text. Text falls behind its token while a
    `stop` could begin, and a mark would be read twice: once as a token and once as text.

    If an answer ends within a call, Hermes' parser shows all calls as text. The whole ones are
    kept, and what was begun is left out.
    """
    if parser is None:
        return None
    if issubclass(parser, DelegatingParser):
        parser = _in_step(parser)

    class HeldToSchemas(parser):  # type: ignore[misc, valid-type]
        def adjust_request(self, request: Any) -> Any:
            if request.tool_choice in ("none", None):
                return super().adjust_request(request)
            if request.tool_choice == "auto":
                return framed(request, self.tool_strict_level, self._adjust_at)
            return self._adjust_at(request, ToolStrictLevel.PARAMETER)

        def _adjust_at(self, request: Any, level: Level) -> Any:
            self.tool_strict_level = level
            return let_be_one(super().adjust_request(request))

    return HeldToSchemas


def _in_step(parser: type[DelegatingParser]) -> type[DelegatingParser]:
    """A parser that knows that the prompt ended the thoughts, and reads a mark with its text.

    In a stream vLLM's parsers know the former already. An older vLLM does not give a parser the
    prompt.
    """
    told = hasattr(parser, "set_prompt_token_ids")

    class InStepParser(parser):  # type: ignore[misc]
        _thought_before = False
        _parts: InStep | None = None

        def set_prompt_token_ids(self, prompt_token_ids: Sequence[int]) -> None:
            if told:
                super().set_prompt_token_ids(prompt_token_ids)
            thoughts = self.reasoning_parser
            # Parsers with an engine of their own learn it from the template's variables.
            if thoughts is not None and not thoughts.engine_based_streaming:
                self._thought_before = thoughts.is_reasoning_end(list(prompt_token_ids))

        def extract_reasoning(self, model_output: str, request: Any) -> Any:
            if self._thought_before:
                return None, model_output
            return super().extract_reasoning(model_output, request)

        def parse(self, model_output: str, request: Any, *rest: Any, **options: Any) -> Any:
            if request.tools:
                model_output = _without_begun(self._tool_parser, model_output)
            return super().parse(model_output, request, *rest, **options)

        def parse_delta(
            self,
            delta_text: str,
            delta_token_ids: list[int],
            request: Any,
            *arguments: Any,
            finished: bool,
            **options: Any,
        ) -> Any:
            if self._parts is None:
                hidden = request.skip_special_tokens
                self._parts = InStep(_marks(self.model_tokenizer, hidden=hidden))
            text, ids = self._parts.next(delta_text, delta_token_ids, last=finished)
            return super().parse_delta(text, ids, request, *arguments, finished=finished, **options)

    return InStepParser


def _without_begun(parser: Any, text: str) -> str:
    """An answer without a last call that is not whole, where calls are objects between marks."""
    if not isinstance(parser, Hermes2ProToolParser):
        return text
    begin = text.rfind(parser.tool_call_start_token)
    if begin < 0 or parser.tool_call_end_token in text[begin:]:
        return text
    try:
        json.loads(text[begin + len(parser.tool_call_start_token) :])
    except ValueError:
        return text[:begin]
    return text


def _marks(tokenizer: Any, *, hidden: bool) -> Mapping[int, str]:
    """The texts of a tokenizer's added tokens, by id; without special ones if these are hidden."""
    added: Mapping[int, Any] = getattr(tokenizer, "added_tokens_decoder", {})
    return {
        token_id: token.content
        for token_id, token in added.items()
        if token.content and not (hidden and token.special)
    }


class InStep:
    """Holds back tokens whose text has not come yet, from the first marker on.

    `marks` are the texts of the marker tokens that a parser looks for. The text comes later than
    its tokens while it could end with the beginning of a `stop`, or while a character needs more
    tokens.
    """

    def __init__(self, marks: Mapping[int, str]) -> None:
        self._marks = marks
        self._text = ""
        self._ids: list[int] = []

    def next(self, text: str, ids: Sequence[int], *, last: bool) -> tuple[str, list[int]]:
        """The text and the tokens that can be parsed now; with `last` all that is left."""
        self._text += text
        self._ids += ids
        shown, known = (len(self._text), len(self._ids)) if last else self._ready()
        given = self._text[:shown], self._ids[:known]
        self._text, self._ids = self._text[shown:], self._ids[known:]
        return given

    def _ready(self) -> tuple[int, int]:
        """How many characters and tokens come before the first mark whose text is incomplete."""
        begin = 0
        for place, token_id in enumerate(self._ids):
            mark = self._marks.get(token_id)
            if mark is None:
                continue
            found = self._text.find(mark, begin)
            if found < 0:
                return len(self._text) - _begun(self._text[begin:], mark), place
            begin = found + len(mark)
        return len(self._text), len(self._ids)


def _begun(text: str, mark: str) -> int:
    """The length of the longest suffix of a text that may be the beginning of a mark."""
    most = min(len(text), len(mark) - 1)
    return next((size for size in range(most, 0, -1) if mark.startswith(text[-size:])), 0)
