"""vLLM's parsers of thoughts and calls, mended where an answer would be read wrongly."""

from collections.abc import Mapping, Sequence
from typing import Any

from vllm.parser import Parser
from vllm.parser.abstract_parser import DelegatingParser
from vllm.tool_parsers.tool_strict_level import ToolStrictLevel

from service.vllm_engine.call_frame import framed
from service.vllm_engine.marks import InStep


def mended(parser: type[Parser] | None) -> type[Parser] | None:
    """A parser under which a call that must come keeps to its schema, be its tool strict or not.

    One that may come keeps to it as far as the operator's level says and a grammar can hold it.
    An answer to a prompt that ends the thoughts, as a template does where thinking is switched off,
    has none: some of vLLM's parsers take all of a whole answer for one then. In a stream they see a
    token only with its text: the text is behind while a `stop` could begin, and they would read a
    mark twice, once as a token and once as text.
    """
    if parser is None:
        return None
    if issubclass(parser, DelegatingParser):
        parser = _in_step(_after_prompt(parser))

    class Held(parser):  # type: ignore[misc, valid-type]
        def adjust_request(self, request: Any) -> Any:
            if request.tool_choice in ("none", None):
                return super().adjust_request(request)
            if request.tool_choice == "auto":
                return framed(request, self.tool_strict_level, self._adjust_at)
            return self._adjust_at(request, ToolStrictLevel.PARAMETER)

        def _adjust_at(self, request: Any, level: ToolStrictLevel) -> Any:
            self.tool_strict_level = level
            return super().adjust_request(request)

    return Held


def _after_prompt(parser: type[DelegatingParser]) -> type[DelegatingParser]:
    """A parser that looks for no thoughts where the prompt ends them, as it does in a stream."""

    class AfterPrompt(parser):  # type: ignore[misc]
        _thought_before = False

        def set_prompt_token_ids(self, prompt_token_ids: Sequence[int]) -> None:
            super().set_prompt_token_ids(prompt_token_ids)
            thoughts = self.reasoning_parser
            # Parsers with an engine of their own find it in what the template was told.
            if thoughts is not None and not thoughts.engine_based_streaming:
                self._thought_before = thoughts.is_reasoning_end(list(prompt_token_ids))

        def extract_reasoning(
            self, model_output: str, request: Any
        ) -> tuple[str | None, str | None]:
            if self._thought_before:
                return None, model_output
            found: tuple[str | None, str | None] = super().extract_reasoning(model_output, request)
            return found

    return AfterPrompt


def _in_step(parser: type[DelegatingParser]) -> type[DelegatingParser]:
    """A parser that sees the token of a mark, as `</think>`, together with the mark's text."""

    class WithMarks(parser):  # type: ignore[misc]
        _parts: InStep | None = None

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
                hidden = getattr(request, "skip_special_tokens", True)
                self._parts = InStep(_marks(self.model_tokenizer, hidden=hidden))
            text, ids = self._parts.next(delta_text, delta_token_ids, last=finished)
            return super().parse_delta(text, ids, request, *arguments, finished=finished, **options)

    return WithMarks


def _marks(tokenizer: Any, *, hidden: bool) -> Mapping[int, str]:
    """The tokens that a tokenizer was given beside its words; special ones may be left unshown."""
    added: Mapping[int, Any] = getattr(tokenizer, "added_tokens_decoder", {})
    return {
        token_id: token.content
        for token_id, token in added.items()
        if token.content and not (hidden and token.special)
    }
