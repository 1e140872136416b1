"""vLLM holds a call that may come to no schema, unless the tool is strict."""

from collections.abc import Callable
from typing import Any, TypeAlias

from vllm.sampling_params import StructuredOutputsParams
from vllm.tool_parsers.tool_strict_level import ToolStrictLevel

USES = (
    "calls vllm.entrypoints.openai.chat_completion.protocol:"
    "ChatCompletionRequest.extract_structured_outputs",
    "extends vllm.sampling_params:StructuredOutputsParams.structural_tag",
)

Level: TypeAlias = ToolStrictLevel | None
"""How strictly calls are held to their schemas; None, where vLLM has it, is the parser's own."""

Adjust = Callable[[Any, Level], Any]
"""A parser's `adjust_request` at a level of strictness."""


class CallFrame(StructuredOutputsParams):  # type: ignore[misc]
    """A grammar for tool calls that the request did not ask for, so that it may be left out.

    If it cannot be compiled, `looser` makes the structure of the next lower level. `asked` is true
    if the request asked for some structure.
    """

    looser: Callable[[], StructuredOutputsParams | None] | None = None
    asked = False


def framed(request: Any, level: Level, adjust: Adjust) -> Any:
    """A request with `tool_choice: auto`, its calls constrained at this level or a lower one."""
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
