"""Chats: a conversation to answer, its prompt, and the parsing of what a model writes to it.

How a conversation becomes a prompt, and how thoughts and calls of tools stand in an answer, is the
model's own format: the engine's side of the service brings it as a `ChatFormat`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from service.engine.protocol import Prompt, Sampling

ToolChoice = Literal["auto", "none", "required"] | str
"""Whether an answer may hold calls; a name of a function after `function:` demands that one."""


@dataclass(frozen=True, slots=True)
class Chat:
    """A checked conversation, in the form of OpenAI's chat completions.

    `messages`, `tools` and `documents` are objects of that API. `tool_choice` is `auto`, `none`,
    `required` or the name of a function after `function:`. `template_kwargs` are variables of the
    model's chat template. A `reasoning_effort` of `least` is the smallest that the template knows.
    `truncate` cuts the prompt to so many tokens.
    """

    messages: Sequence[Mapping[str, Any]] = field(repr=False)
    tools: Sequence[Mapping[str, Any]] = field(default=(), repr=False)
    tool_choice: ToolChoice = "none"
    parallel_tool_calls: bool = True
    reasoning_effort: str | None = None
    include_reasoning: bool = True
    documents: Sequence[Mapping[str, Any]] = field(default=(), repr=False)
    template_kwargs: Mapping[str, Any] = field(default_factory=dict, repr=False)
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    add_special_tokens: bool = False
    truncate: int | None = None
    truncation_side: Literal["left", "right"] | None = None

    @property
    def offers_tools(self) -> bool:
        """True if the answer may hold calls."""
        return bool(self.tools) and self.tool_choice != "none"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a function; `arguments` are JSON as the model wrote it."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Said:
    """What a whole answer says; `content` is None beside calls without text."""

    content: str | None
    reasoning: str | None = None
    calls: Sequence[ToolCall] = ()


class AnswerParser(Protocol):
    """Finds thoughts and calls in one answer; each answer has its own."""

    def whole(self, text: str, token_ids: Sequence[int]) -> Said:
        """What a whole answer says."""

    def delta(self, text: str, token_ids: Sequence[int], *, last: bool) -> dict[str, Any] | None:
        """What more text says, as the `delta` of a chat completion's chunk: `content`, `reasoning`
        and `tool_calls`, each only if it is there. None if nothing can be told yet.
        """

    def reasoning_tokens(self, token_ids: Sequence[int]) -> int:
        """How many of an answer's tokens are thoughts."""


@dataclass(slots=True)
class PreparedChat:
    """A chat, ready for the engine.

    `sampling` holds what the format adds to the request's: a structure for calls, special tokens
    that are shown. `options` are the engine's own, and passed on as they are. Without a `parser` an
    answer is its text. `role` is the speaker of the answer. `counts_reasoning` if an answer's usage
    tells the tokens of its thoughts.
    """

    prompt: Prompt
    sampling: Sampling
    parser: Callable[[], AnswerParser] | None = None
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    role: str = "assistant"
    counts_reasoning: bool = False


class ChatFormat(Protocol):
    """The format of a model's conversations."""

    @property
    def calls_tools(self) -> bool:
        """True if calls of tools can be found in what the model writes."""

    @property
    def reads_documents(self) -> bool:
        """True if the chat template reads `documents`."""

    async def prepare(self, chat: Chat, sampling: Sampling) -> PreparedChat:
        """Render a chat in the tenant's fair turns; raises InvalidRequest where it cannot be."""
