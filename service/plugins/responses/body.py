"""Bodies of OpenAI's Responses, and their translation to a chat and its sampling."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field, with_config
from typing_extensions import TypedDict

from service.common.error_messages import quote
from service.engine.contract import Sampling, Structure
from service.engine.texts import Chat, ToolChoice
from service.errors import InvalidRequest
from service.limits.caps import check_answer_logprobs, check_template_kwargs
from service.limits.structure import check_schema, check_schemas
from service.openai.body import OPENAI, STRICT, TEXT_ONLY, Int64, Many, Only, Rules
from service.openai.chat import chat_tool
from service.openai.sampling import SampledBody, check_count, check_entries
from service.plugins.responses.input import Input, check_items, goes_on, messages_of
from service.settings.limits import LimitSettings

_LOGPROBS = "message.output_text.logprobs"
_STATELESS = "no response is kept"
_FUNCTIONS = "the service runs no tools of its own; describe yours as functions"

RESPONSES = Rules(
    hints=(OPENAI.hints - {"metadata"})
    | {"client_metadata", "max_tool_calls", "phase", "prompt_cache_options", "stream_options"},
    no_ops={
        **OPENAI.no_ops,
        "background": (False,),
        "enable_response_messages": (False,),
        "include": ([],),
        "n": (1,),
        "previous_input_messages": ([],),
        "spaces_between_special_tokens": (True,),
        "truncation": ("disabled", "auto"),
    },
    refused={
        **OPENAI.refused,
        "background": f"{_STATELESS} to be fetched later",
        "background_options": f"{_STATELESS} to be fetched later",
        "context_management": "send what shall be read",
        "conversation": "no conversation is kept; send all of its items as input",
        "enable_response_messages": "call /v1/tokenize for what the model reads",
        "image": TEXT_ONLY,
        "logprobs": f"set include to ['{_LOGPROBS}'], and top_logprobs",
        "max_completion_tokens": "set max_output_tokens",
        "max_tokens": "set max_output_tokens",
        "messages": "set input",
        "moderation": "call /v1/moderations, where guards are configured",
        "n": "a request has one response",
        "previous_input_messages": "send all items as input",
        "previous_response_id": f"{_STATELESS}; send its items, and those before it, as input",
        "prompt": "no prompt is kept; set instructions and input",
        "reasoning_effort": "set reasoning.effort",
        "response_format": "set text.format",
        "spaces_between_special_tokens": "set skip_special_tokens",
        "truncation": "an input that does not fit is refused",
    },
)


@with_config(STRICT)
class ReasoningOptions(TypedDict, total=False):
    """How much the model reasons; no summary is written."""

    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
    summary: Literal["auto", "concise", "detailed"]
    generate_summary: Literal["auto", "concise", "detailed"]


@with_config(STRICT)
class PlainFormat(TypedDict):
    """Plain text, or any JSON object."""

    type: Literal["text", "json_object"]


@with_config(STRICT)
class SchemaFormat(TypedDict):
    """JSON that follows a schema."""

    type: Literal["json_schema"]
    name: str
    schema: dict[str, Any]
    description: NotRequired[str]
    strict: NotRequired[bool]


@with_config(STRICT)
class TextOptions(TypedDict, total=False):
    """The form of an answer's text."""

    format: Annotated[
        PlainFormat | SchemaFormat,
        Field(discriminator="type"),
        Only("other formats are in structured_outputs"),
    ]


@with_config(STRICT)
class ResponseTool(TypedDict):
    """A function that the answer may call."""

    type: Literal["function"]
    name: str
    description: NotRequired[str]
    parameters: NotRequired[Annotated[dict[str, Any], Field(description="A JSON schema.")]]
    strict: NotRequired[bool]


@with_config(STRICT)
class ResponseToolChoice(TypedDict):
    """The function that the answer must call."""

    type: Literal["function"]
    name: str


ToolOption = Literal["auto", "none", "required"]
Included = Literal[
    "code_interpreter_call.outputs",
    "computer_call_output.output.image_url",
    "file_search_call.results",
    "message.input_image.image_url",
    "message.output_text.logprobs",
    "reasoning.encrypted_content",
]


class ResponseBody(SampledBody):
    """The body of POST /v1/responses."""

    rules = RESPONSES

    input: Input = Field(description="What the user says, or a conversation as items.")
    instructions: str | None = Field(None, description="What a system message says.")
    max_output_tokens: Annotated[Int64, Field(ge=1)] | None = None
    """The longest answer, in tokens, thoughts included."""
    metadata: Annotated[dict[str, str], Field(max_length=16)] | None = None
    """Texts by name, which the response repeats."""
    parallel_tool_calls: bool = Field(True, description="Allow several calls in one answer.")
    include: Annotated[list[Included], Many, Field(max_length=16)] | None = Field(
        None,
        description=f"`{_LOGPROBS}` tells the answer's log-probabilities; others add nothing.",
    )
    top_logprobs: int | None = None
    """Also return the log-probabilities of so many of the most likely tokens at each place."""
    include_reasoning: bool = Field(True, description="Tell the thoughts of the answer.")
    reasoning: ReasoningOptions | None = Field(None, description="How much the model thinks.")
    text: TextOptions | None = Field(None, description="The form of the answer's text.")
    tools: Annotated[list[Annotated[ResponseTool, Only(_FUNCTIONS)]], Many] | None = None
    """Functions that the model may call."""
    tool_choice: ToolOption | Annotated[ResponseToolChoice, Only(_FUNCTIONS)] | None = None
    """Whether the answer may or has to call tools; default `auto`."""
    chat_template_kwargs: dict[str, Any] | None = None
    """Variables of the model's chat template, as far as they may be set."""

    def settle(self, limits: LimitSettings, context: int) -> None:
        super().settle(limits, context)
        check_count(self.top_logprobs, 0, limits.logprobs, "top_logprobs")
        check_entries(self, limits, "tools")
        check_template_kwargs(self.chat_template_kwargs)
        if not isinstance(self.input, str):
            check_items(self.input, limits)
        self._check_format(limits)
        self._check_tools(limits)
        longest = self.max_output_tokens or limits.default_max_tokens
        if longest is not None:
            self.max_output_tokens = min(longest, context)
        if self.logprobs is not None:
            # The last event of a stream repeats the whole answer.
            check_answer_logprobs(1, min(longest or context, context), 1 + self.logprobs, limits)

    def _check_format(self, limits: LimitSettings) -> None:
        form = self.format
        if form is not None and self.structured_outputs is not None:
            message = "structured_outputs: not beside text.format"
            raise InvalidRequest(message, param="structured_outputs")
        if form is not None and form["type"] == "json_schema":
            check_schema(form["schema"], limits, "text.format.schema")

    def _check_tools(self, limits: LimitSettings) -> None:
        tools = {tool["name"]: tool for tool in self.tools or ()}
        schemas = {
            f"tools[{index}].parameters": tool["parameters"]
            for index, tool in enumerate(self.tools or ())
            if "parameters" in tool
        }
        check_schemas(schemas, limits.tools_bytes, limits, "tools")
        match self.tool_choice:
            case {"name": name} if name not in tools:
                message = f"tool_choice.name: must be one of tools, got {quote(name)}"
                raise InvalidRequest(message, param="tool_choice")
            case "required" if not tools:
                raise InvalidRequest(
                    "tool_choice: required, but there are no tools", param="tool_choice"
                )

    @property
    def logprobs(self) -> int | None:
        """The number of likely tokens at each position; None without log-probabilities."""
        return (self.top_logprobs or 0) if _LOGPROBS in (self.include or ()) else None

    @property
    def format(self) -> PlainFormat | SchemaFormat | None:
        """The form of the answer's text, if it is set."""
        return None if self.text is None else self.text.get("format")

    @property
    def structure(self) -> Structure | None:
        asked = self.format
        if asked is None or asked["type"] == "text":
            found = super().structure
            return found and replace(found, strict=False)
        if asked["type"] == "json_object":
            return Structure(json_object=True)
        return Structure(json_schema=asked["schema"], strict=asked.get("strict", False))

    @property
    def chosen_tool(self) -> ToolChoice:
        """The tool choice in the form of chat completions."""
        match self.tool_choice:
            case {"name": name}:
                return f"function:{name}"
            case str() as choice if self.tools:
                return choice
        return "auto" if self.tools else "none"

    def chat(self) -> Chat:
        """The conversation to answer."""
        said = {"role": "system", "content": self.instructions}
        messages: list[Mapping[str, Any]] = [said] if self.instructions else []
        if isinstance(self.input, str):
            partial = False
            messages.append({"role": "user", "content": self.input})
        else:
            partial = goes_on(self.input)
            messages += messages_of(self.input)
        return Chat(
            messages=messages,
            tools=[chat_tool(tool) for tool in self.tools or ()],
            tool_choice=self.chosen_tool,
            parallel_tool_calls=self.parallel_tool_calls,
            reasoning_effort=(self.reasoning or {}).get("effort"),
            include_reasoning=self.include_reasoning,
            template_kwargs=self.chat_template_kwargs or {},
            add_generation_prompt=not partial,
            continue_final_message=partial,
        )

    def sampling(self, defaults: Mapping[str, Any]) -> Sampling:
        """The parameters of sampling, with the model's `defaults`; raises InvalidRequest."""
        longest = self.max_output_tokens or defaults.get("max_tokens")
        return self.sampled(defaults, max_tokens=longest, logprobs=self.logprobs)
