"""The format of a model's conversations: vLLM's chat templates and parsers."""

import uuid
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from vllm.entrypoints.openai.chat_completion.protocol import (
    ChatCompletionNamedToolChoiceParam,
    ChatCompletionRequest,
    ChatCompletionToolsParam,
)
from vllm.entrypoints.serve.engine.protocol import ErrorResponse
from vllm.parser.harmony import HarmonyParser
from vllm.renderers.online_renderer import OnlineRenderer

from service.admission.preparation import Preparation
from service.context import current_context, internal_request
from service.engine.contract import Sampling, Structure
from service.engine.texts import Chat, PreparedChat, Said, ToolCall
from service.errors import InvalidRequest
from service.vllm.conversion import explain, explained, invalid, structured_outputs
from service.vllm.patches.parsers import CallFrame, mended
from service.vllm.patches.vllm_0_31 import lower_max_tokens
from service.vllm.tool_parsers import given_template, parser_for

USES = (
    "calls vllm.entrypoints.openai.chat_completion.protocol:"
    "ChatCompletionRequest.build_chat_params, extract_structured_outputs",
    "calls vllm.parser.abstract_parser:Parser.count_reasoning_tokens, is_reasoning_end, parse, "
    "parse_delta",
    "extends vllm.renderers.base:BaseRenderer.render_chat_async",
    "replaces vllm.renderers.online_renderer:OnlineRenderer.parser",
    "calls vllm.renderers.online_renderer:OnlineRenderer.render_chat",
    "calls vllm.renderers.params:ChatParams.with_defaults",
)

_LEAST = {"messages": [{"role": "user", "content": "any"}]}
_EFFORTS = ("low", "medium", "high", "xhigh", "max")
_BEGIN_SECONDS = 60.0
_NAMED = "function:"
_FREE = ("auto", "none")


class VllmChats:
    """Renders chats and parses answers as vLLM does; implements `engine.contract.ChatFormat`."""

    def __init__(self, llm: Any, arguments: Namespace, preparation: Preparation) -> None:
        lower_max_tokens()
        self._llm = llm
        self._arguments = arguments
        self._renderer = _renderer(llm, arguments, preparation)
        self._tokenizer = llm.renderer.get_tokenizer()
        thoughts = arguments.structured_outputs_config.reasoning_parser
        self._with_tools = self._renderer.parser = mended(self._renderer.parser)
        self._without_tools = parser_without_tools(self._with_tools, self._tokenizer, thoughts)
        self._counts_reasoning = bool(thoughts)
        bounds = llm.vllm_config.reasoning_config
        self._bounds_thoughts = bounds is not None and bounds.enabled
        self._least_effort = "none"
        # vLLM validates one request, and others are its copies: ours was validated.
        self._any = ChatCompletionRequest.model_validate(_LEAST)
        template = self._renderer.chat_template or getattr(self._tokenizer, "chat_template", None)
        self.reads_documents = "documents" in str(template)

    async def begin(self) -> None:
        """Find in advance the reasoning effort that switches thinking off.

        It is `none`, or `low` if the template refuses `none` or treats it like another effort that
        thinks.
        """
        async with internal_request("thinking", _BEGIN_SECONDS):
            off = await self._prompt("none")
            if off is None or off in [await self._prompt(effort) for effort in _EFFORTS]:
                self._least_effort = "low"

    async def _prompt(self, effort: str) -> list[int] | None:
        """The prompt of a chat with this reasoning effort; None if the template refuses it."""
        chat = Chat(_LEAST["messages"], reasoning_effort=effort)
        try:
            return (await self.prepare(chat, Sampling(max_tokens=1))).prompt
        except InvalidRequest:
            return None

    @property
    def calls_tools(self) -> bool:
        """True if calls of tools can be found in what the model writes."""
        return bool(self._arguments.enable_auto_tool_choice)

    async def prepare(self, chat: Chat, sampling: Sampling) -> PreparedChat:
        """Render a chat in the tenant's fair turns; raises InvalidRequest where it cannot be."""
        if not self._bounds_thoughts:
            sampling = replace(sampling, thinking_token_budget=None)
        request = self._request(chat, sampling)
        kind: Any = self._with_tools if chat.offers_tools else self._without_tools

        def new_parser() -> Any:
            return kind(
                self._tokenizer,
                request.tools,
                chat_template_kwargs=variables,
                model_config=self._llm.model_config,
            )

        with explained():
            variables = {} if kind is None else self._variables(request)
            parser = None if kind is None else new_parser()
            rendered = await self._renderer.render_chat(request)
        if isinstance(rendered, ErrorResponse):
            raise invalid(rendered.error.message, rendered.error.param)
        prompt: list[int] = rendered[1][0]["prompt_token_ids"]

        def answer_parser() -> VllmAnswerParser:
            return VllmAnswerParser(new_parser(), request, prompt, auto=self.calls_tools)

        return PreparedChat(
            prompt,
            _adjusted(sampling, request),
            None if kind is None else answer_parser,
            _about_thoughts(request, parser, variables, prompt),
            self._role(chat),
            counts_reasoning=self._counts_reasoning,
        )

    def _role(self, chat: Chat) -> str:
        if chat.add_generation_prompt:
            return str(self._arguments.response_role)
        return str(chat.messages[-1]["role"])

    def _request(self, chat: Chat, sampling: Sampling) -> Any:
        """The chat as a request of vLLM's, for its renderer and parsers."""
        effort, structure = chat.reasoning_effort, sampling.structure
        fields = {
            "messages": list(chat.messages),
            "tools": [_tool(each) for each in chat.tools] or None,
            "tool_choice": _choice(chat.tool_choice) if chat.tools else "none",
            "parallel_tool_calls": chat.parallel_tool_calls,
            "reasoning_effort": self._least_effort if effort == "least" else effort,
            "include_reasoning": chat.include_reasoning,
            "documents": list(chat.documents) or None,
            "chat_template_kwargs": dict(chat.template_kwargs) or None,
            "add_generation_prompt": chat.add_generation_prompt,
            "continue_final_message": chat.continue_final_message,
            "add_special_tokens": chat.add_special_tokens,
            "truncate_prompt_tokens": chat.truncate,
            "truncation_side": chat.truncation_side,
            "max_tokens": sampling.max_tokens,
            "n": sampling.n,
            "skip_special_tokens": sampling.skip_special_tokens,
            "spaces_between_special_tokens": sampling.spaces_between_special_tokens,
            "structured_outputs": structure and structured_outputs(structure),
        }
        return self._any.model_copy(update=fields)

    def _variables(self, request: Any) -> Mapping[str, Any]:
        """The template variables of a request."""
        renderer = self._renderer
        params = request.build_chat_params(
            renderer.chat_template, renderer.chat_template_content_format
        )
        params = params.with_defaults(renderer.default_chat_template_kwargs)
        found: Mapping[str, Any] = params.chat_template_kwargs
        return found


class VllmAnswerParser:
    """Reads one answer with one of vLLM's parsers; implements `engine.texts.AnswerParser`."""

    def __init__(self, parser: Any, request: Any, prompt: Sequence[int], *, auto: bool) -> None:
        self._parser = parser
        self._request = request
        self._prompt = list(prompt)
        self._auto = auto

    def whole(self, text: str, token_ids: Sequence[int]) -> Said:
        """Parse a whole answer."""
        request, parser = self._request, self._parser
        if hasattr(parser, "set_prompt_token_ids"):
            parser.set_prompt_token_ids(self._prompt)
        with explained():
            thoughts, content, calls = parser.parse(
                text, request, enable_auto_tools=self._auto, model_output_token_ids=token_ids
            )
        if not request.include_reasoning:
            thoughts = None
        if not request.tools or request.tool_choice == "none":
            return Said(content, thoughts)
        made = [
            ToolCall(each.id or f"chatcmpl-tool-{uuid.uuid4().hex}", each.name, each.arguments)
            for each in calls or ()
        ]
        if request.parallel_tool_calls is False:
            made = made[:1]
        demanded = request.tool_choice not in _FREE
        return Said(content or "" if demanded else content, thoughts, made)

    def delta(self, text: str, token_ids: Sequence[int], *, last: bool) -> dict[str, Any] | None:
        """Parse more text of a stream, into a delta of vLLM's form."""
        with explained():
            made = self._parser.parse_delta(
                delta_text=text,
                delta_token_ids=list(token_ids),
                request=self._request,
                prompt_token_ids=self._prompt,
                finished=last,
            )
        if made is None:
            return None
        if self._request.parallel_tool_calls is False and made.tool_calls:
            made.tool_calls = [each for each in made.tool_calls if each.index == 0]
        told: dict[str, Any] = made.model_dump(exclude_unset=True)
        return told

    def reasoning_tokens(self, token_ids: Sequence[int]) -> int:
        """The number of an answer's tokens that are reasoning."""
        return int(self._parser.count_reasoning_tokens(token_ids))


class _StagedRenderer:
    """Replaces vLLM's renderer, whose own threads serve requests in the order of arrival.

    Here templates and tokenisers run in fair turns; a request's whole body counts as the cost.
    """

    def __init__(self, renderer: Any, preparation: Preparation) -> None:
        self._renderer = renderer
        self._preparation = preparation

    def __getattr__(self, name: str) -> Any:
        return getattr(self._renderer, name)

    async def render_chat_async(self, *conversations: Any, **options: Any) -> Any:
        """Apply the chat template and tokenise; raises what `Preparation.run` raises."""
        render = partial(self._renderer.render_chat, *conversations, **options)
        return await self._preparation.run(current_context().body_bytes, render)


def parser_without_tools(parser: Any, tokenizer: Any, thoughts: str | None) -> Any:
    """The parser for answers without tool calls; None if there is nothing else to parse either.

    Harmony's parser stays, because it reads the whole format of its models.
    """
    if parser is None or issubclass(parser, HarmonyParser):
        return parser
    return mended(parser_for(tokenizer, reasoning_parser_name=thoughts))


def _renderer(llm: Any, arguments: Namespace, preparation: Preparation) -> Any:
    """vLLM's renderer of chats as its own server makes it, in fair turns."""
    given = given_template(arguments.chat_template)
    made = OnlineRenderer(
        llm.model_config,
        _StagedRenderer(llm.renderer, preparation),
        request_logger=None,
        chat_template=_own_template(llm) if given is None else given,
        chat_template_content_format=arguments.chat_template_content_format,
        enable_auto_tools=arguments.enable_auto_tool_choice,
        exclude_tools_when_tool_choice_none=arguments.exclude_tools_when_tool_choice_none,
        tool_parser=arguments.tool_call_parser,
        tool_strict_level=arguments.tool_strict_level,
        reasoning_parser=arguments.structured_outputs_config.reasoning_parser,
        default_chat_template_kwargs=arguments.default_chat_template_kwargs,
    )
    made.warmup()
    return made


def _own_template(llm: Any) -> str | None:
    """The tokenizer's template; None where vLLM has to choose among several, or a processor's.

    Without it vLLM would load the tokenizer a second time, to see whether it is a processor.
    """
    template = getattr(llm.renderer.get_tokenizer(), "chat_template", None)
    chosen = isinstance(template, str) and not llm.model_config.is_multimodal_model
    return template if chosen else None


def _tool(tool: Mapping[str, Any]) -> Any:
    try:
        return ChatCompletionToolsParam.model_validate(tool)
    except Exception as error:
        raise explain(error) or InvalidRequest("tools: cannot be read", param="tools") from error


def _choice(choice: str) -> Any:
    """A tool choice in vLLM's form."""
    if not choice.startswith(_NAMED):
        return choice
    named = {"type": "function", "function": {"name": choice.removeprefix(_NAMED)}}
    return ChatCompletionNamedToolChoiceParam.model_validate(named)


def _adjusted(sampling: Sampling, request: Any) -> Sampling:
    """The sampling, plus what the parsers set in the request: a structure, and shown tokens."""
    own = request.extract_structured_outputs()
    shown = {
        name: getattr(request, name)
        for name in ("skip_special_tokens", "spaces_between_special_tokens")
        if getattr(request, name) != getattr(sampling, name)
    }
    if own is not None:
        asked = own.asked if isinstance(own, CallFrame) else True
        strict = any(getattr(tool.function, "strict", None) for tool in request.tools or ())
        base = sampling.structure or Structure(strict=False)
        shown["structure"] = replace(base, own=own, asked=asked, strict=strict or base.strict)
    return replace(sampling, **shown) if shown else sampling


def _about_thoughts(
    request: Any, parser: Any, variables: Mapping[str, Any], prompt: Sequence[int]
) -> dict[str, Any]:
    """Arguments about reasoning for vLLM's structures, which do not constrain reasoning."""
    thinks = parser is not None and parser.reasoning_parser is not None
    ended: bool | None = None
    if not request.include_reasoning or request._grammar_from_parser:
        ended = True
    elif thinks:
        ended = parser.is_reasoning_end(list(prompt))
    if ended is None and not thinks:
        return {}
    told = {"chat_template_kwargs": dict(variables)} if thinks else None
    return {"reasoning_ended": ended, "reasoning_parser_kwargs": told}
