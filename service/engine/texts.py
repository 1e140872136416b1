"""A model's texts: prompts, conversations, answers and labels, and the sizes of texts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeVar

from service.engine.contract import Adapter, LabelLogprobs, ModelInfo, Sampling


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class ChatFrame:
    """The chat template's text around a single user message, up to the start of the answer.

    Special tokens are contained as text (`Vocabulary.encode_template` recognises them). For a model
    without a chat template `before` is what begins every prompt, and `after` is empty.
    """

    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Reading:
    """How to tokenise a plain prompt: whether to add start tokens, and how many tokens to keep."""

    add_special_tokens: bool = True
    truncate: int | None = None
    truncation_side: Literal["left", "right"] | None = None


ToolChoice = Literal["auto", "none", "required"] | str
"""Whether an answer may hold calls; a name of a function after `function:` demands that one."""


@dataclass(frozen=True, slots=True)
class Chat:
    """A checked conversation, in the form of OpenAI's chat completions.

    `messages`, `tools` and `documents` are objects of that API. `tool_choice` is `auto`, `none`,
    `required` or the name of a function after `function:`. `template_kwargs` are variables of the
    model's chat template. A `reasoning_effort` of `least` is the lowest that the template knows.
    `truncate` is the number of tokens to cut the prompt to.
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
    """A parsed answer; `content` is None if there are only tool calls.

    `refusal` says how the content breaks the request's schema, if it does.
    """

    content: str | None
    reasoning: str | None = None
    calls: Sequence[ToolCall] = ()
    refusal: str | None = None


class AnswerParser(Protocol):
    """Finds reasoning and tool calls in the text of one answer; each answer has its own parser."""

    def whole(self, text: str, token_ids: Sequence[int]) -> Said:
        """Parse a whole answer."""

    def delta(self, text: str, token_ids: Sequence[int], *, last: bool) -> dict[str, Any] | None:
        """Parse more text of a stream; None if there is nothing to send yet.

        The result is the `delta` of a chat completion's chunk: `content`, `reasoning` and
        `tool_calls`, each only if there is some.
        """

    def reasoning_tokens(self, token_ids: Sequence[int]) -> int:
        """The number of an answer's tokens that are reasoning."""


@dataclass(slots=True)
class PreparedChat:
    """A chat, ready for the engine.

    `sampling` is the request's, plus what the chat format needs, such as a structure for tool calls
    or visible special tokens. `options` are engine-specific and passed on unchanged. Without a
    `parser` an answer is plain text. `role` is the speaker of the answer. `counts_reasoning` is
    true if the usage includes the number of reasoning tokens.
    """

    prompt: list[int] = field(repr=False)
    sampling: Sampling
    parser: Callable[[], AnswerParser] | None = None
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    role: str = "assistant"
    counts_reasoning: bool = False


class Vocabulary(Protocol):
    """Converts text to token ids, synchronously on the caller's thread."""

    @property
    def start_token_ids(self) -> tuple[int, ...]:
        """The tokens with which every plain prompt begins."""

    @property
    def end_token_ids(self) -> tuple[int, ...]:
        """The tokens that constrained decoding allows as the end of an answer."""

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, without special tokens; text never becomes a special token."""

    def encode_template(self, text: str) -> list[int]:
        """Token ids of the service's own text: special tokens in it count, and none is added."""


class Texts(Vocabulary, Protocol):
    """The tokeniser and the chat template of a model, on the caller's own thread.

    Prompts longer than the model's context raise InvalidRequest, with counts.
    """

    @property
    def chat_frame(self) -> ChatFrame: ...

    def render(self, prompt: str | Sequence[int], reading: Reading) -> list[int]:
        """Token ids of a plain prompt; InvalidRequest for ids that the model does not have."""

    def render_chat(self, messages: Sequence[Message]) -> list[int]:
        """Token ids of a conversation, ready for the assistant's answer."""

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of token ids, special tokens included; InvalidRequest for an unknown id."""


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


Result = TypeVar("Result")


class LabelEngine(Vocabulary, Protocol):
    """What classification needs of a model; prompts are read in the tenant's fair turns."""

    @property
    def model(self) -> ModelInfo: ...

    @property
    def chat_frame(self) -> ChatFrame: ...

    async def prepare(self, size: int, work: Callable[[], Result]) -> Result:
        """Do work on `size` bytes of text, in the tenant's fair turn.

        Raises what the work raises, TooManyRequests, QueueFull or DeadlineExceeded.
        """

    async def prepare_prompt(self, size: int, work: Callable[[], Result]) -> Result:
        """Do the work of `prepare` for the current prompt, unless its request is refused early."""

    async def label_logprobs(
        self, prompt: list[int], token_ids: Sequence[int], adapter: Adapter | None
    ) -> LabelLogprobs:
        """Log-probabilities of at most MAX_READ_IDS tokens as the next one.

        Waits for admission: QueueFull, DeadlineExceeded or EngineDead.
        """


class Writer(Protocol):
    """Takes the parts of a streamed answer, in order.

    While the client does not read, `busy` is true, and parts are queued and joined. A caller that
    can merge parts should wait until `on_free` is called.
    """

    on_free: Callable[[], None]

    @property
    def busy(self) -> bool: ...

    def write(self, part: bytes) -> None: ...

    async def flush(self) -> None:
        """Wait until the client has taken all parts; raises the error of a part that failed."""


_MESSAGE_BYTES = 32
"""Bytes of a message's role and of a template around its content."""


_TOKEN_BYTES = 4
"""Bytes of text that a token stands for, about."""


def size_of(text: str) -> int:
    """Bytes of a text."""
    return len(text.encode(errors="surrogatepass"))


def size_of_chat(messages: Sequence[Message]) -> int:
    """Bytes of a conversation."""
    return sum(_MESSAGE_BYTES + size_of(message.content) for message in messages)


def size_of_tokens(token_ids: Sequence[int]) -> int:
    """Approximate size in bytes of the text of these token ids."""
    return _TOKEN_BYTES * len(token_ids)
