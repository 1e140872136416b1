"""Values that pass between the service and an engine, and the sizes of texts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class AnswerOptions:
    """The operator's options for what OpenAI-style answers contain.

    `fingerprint` names the version and configuration of the engine. With `cached_tokens` the usage
    includes the tokens that came from the cache, and with `usage_always` each stream ends with its
    usage. With `tokens_as_ids` log-probabilities name tokens as `token_id:17`.
    """

    fingerprint: str | None = None
    cached_tokens: bool = True
    usage_always: bool = False
    tokens_as_ids: bool = False


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """The base model as served.

    No token stands for more than `max_token_chars` characters. A `max_lora_rank` of 0 means that
    it takes no adapters. `client` is how the service reaches vLLM, `stock` or `fast`, and `vllm`
    its version; both are empty for another engine. `client_notes` say what kept the fast client
    from being taken, or vLLM's version from being a tested one.
    """

    name: str
    digest: str
    max_model_len: int
    max_num_seqs: int
    max_lora_rank: int = 0
    max_token_chars: int = field(kw_only=True)
    client: str = ""
    vllm: str = ""
    client_notes: tuple[str, ...] = ()
    sampling_defaults: Mapping[str, Any] = field(default_factory=dict)
    """Sampling parameters of the model's own `generation_config`, for requests that set none."""
    most_new_tokens: int | None = None
    """The most tokens of an answer by that configuration, None where it states none."""
    answers: AnswerOptions = AnswerOptions()
    echoes: bool = True
    """False if the engine cannot compute log-probabilities of prompts."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """One version of a fine-tuned adapter.

    `engine_id` is never used twice while the engine lives; `digest` and `version` are the
    manifest's, and `path` a folder whose bytes do not change.
    """

    name: str
    engine_id: int
    path: str
    digest: str
    version: str = ""

    @property
    def engine_name(self) -> str:
        """A name that two versions never share: the engine's cached blocks are keyed by it."""
        return f"{self.name}@{self.digest.removeprefix('sha256:')[:12]}"


@dataclass(frozen=True, slots=True)
class AdapterUsage:
    """Work of the engine with an adapter since it was loaded.

    `requests` have got their first token; for them its weights were read again `reads` times, in
    `read_seconds` together. One read serves all requests that wait for it.
    """

    requests: int
    reads: int
    read_seconds: float


@dataclass(frozen=True, slots=True)
class Structure:
    """A constraint on the answer: one of `json_schema`, `regex`, `choice`, `json_object`, `own`.

    `own` is an engine-specific constraint, which its chat format made. `asked` is False for one
    that the request did not ask for, which only keeps tool calls well-formed.
    """

    json_schema: Mapping[str, object] | bool | None = None
    regex: str | None = None
    choice: Sequence[str] | None = None
    json_object: bool = False
    own: Any = field(default=None, repr=False)
    asked: bool = True


@dataclass(frozen=True, slots=True)
class Sampling:
    """Sampling parameters by vLLM's names.

    `max_tokens` None means as many as fit. At most `thinking_token_budget` of them are reasoning,
    if the engine can tell it from the answer. `logprobs` is how many of the most likely tokens get
    log-probabilities at each place of the answer, beside the sampled token; `prompt_logprobs` is
    the same for the prompt.
    """

    max_tokens: int | None
    n: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None
    stop: Sequence[str] = ()
    stop_token_ids: Sequence[int] = ()
    min_tokens: int = 0
    ignore_eos: bool = False
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: Mapping[int, float] | None = None
    allowed_token_ids: Sequence[int] | None = None
    bad_words: Sequence[str] = ()
    skip_special_tokens: bool = True
    spaces_between_special_tokens: bool = True
    include_stop_str_in_output: bool = False
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    thinking_token_budget: int | None = None
    structure: Structure | None = None


@dataclass(frozen=True, slots=True)
class LabelLogprobs:
    """Next-token log-probabilities over the full vocabulary, in the order they were asked for.

    `engine_wait` is how long the engine held the request before its step, in seconds, if the engine
    reports it.
    """

    logprobs: Sequence[float]
    prompt_tokens: int
    cached_tokens: int
    engine_wait: float | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class ChatFrame:
    """Text of the chat template around the one message of a user, up to the answer's start.

    Special tokens stand in it as text (`Vocabulary.encode_template` reads them). For a model
    without a chat template `before` is what begins every prompt and `after` is empty.
    """

    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Reading:
    """How to tokenise a plain prompt: whether to add start tokens, and how many tokens to keep."""

    add_special_tokens: bool = True
    truncate: int | None = None
    truncation_side: Literal["left", "right"] | None = None


@dataclass(frozen=True, slots=True)
class Vitals:
    """Activity of the engine's processes: the CPU time they used so far, in seconds.

    `stopped` is true if a signal stopped one, `loading` while an adapter is loaded and no step is
    made.
    """

    cpu_seconds: float
    stopped: bool = False
    loading: bool = False


MAX_READ_IDS = 128
"""Token ids that one label read may ask for (vLLM's own limit)."""

MAX_LABELS = 256
"""Labels of one classification."""

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
    """A parsed answer; `content` is None if there are only tool calls."""

    content: str | None
    reasoning: str | None = None
    calls: Sequence[ToolCall] = ()


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

    `sampling` is the request's, plus what the chat format adds: a structure for calls, special
    tokens that are shown. `options` are engine-specific and passed on unchanged. Without a `parser`
    an answer is plain text. `role` is the speaker of the answer. `counts_reasoning` is true if the
    usage includes the number of reasoning tokens.
    """

    prompt: list[int] = field(repr=False)
    sampling: Sampling
    parser: Callable[[], AnswerParser] | None = None
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    role: str = "assistant"
    counts_reasoning: bool = False


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
    """Bytes of the text of token ids, about."""
    return _TOKEN_BYTES * len(token_ids)
