"""Roles of an engine, and the values that pass between them and the service."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeVar

Result = TypeVar("Result")

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class AnswerOptions:
    """What the operator has OpenAI's answers tell.

    `fingerprint` names the version and configuration of the engine. With `cached_tokens` usage
    tells the tokens that came from the cache, and with `usage_always` each stream ends with its
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

    `engine_id` is never used twice while the engine lives; `digest` is the manifest's, and `path`
    a folder whose bytes do not change.
    """

    name: str
    engine_id: int
    path: str
    digest: str

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

    `own` is one of the engine's kind, which its chat format made. `asked` is False if it only keeps
    calls of tools in their form, which no one asked for.
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

    `max_tokens` None is as many as fit; of them at most `thinking_token_budget` are thoughts, where
    the engine tells these apart. Of each token, `logprobs` are the most likely ones whose
    log-probabilities are told beside its own, and `prompt_logprobs` those of the prompt's tokens.
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

    `engine_wait` is how long the engine held the request before its step, in seconds, if it tells.
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

    Special tokens stand in it as text (`Encoder.encode_template` reads them). For a model without
    a chat template `before` is what begins every prompt and `after` is empty.
    """

    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """A rendered prompt."""

    token_ids: list[int] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Reading:
    """How a plain prompt is read: with the tokens that begin prompts, and cut to so many."""

    add_special_tokens: bool = True
    truncate: int | None = None
    truncation_side: Literal["left", "right"] | None = None


@dataclass(frozen=True, slots=True)
class Vitals:
    """Activity of the engine's processes: the CPU time they used so far, in seconds.

    `stopped` by a signal; `loading` an adapter, in which no step is made.
    """

    cpu_seconds: float
    stopped: bool = False
    loading: bool = False


MAX_READ_IDS = 128
"""Token ids that one label read may ask for (vLLM's own limit)."""


class HasModel(Protocol):
    """One base model, which every role but `Vocabulary` and `Pulse` serves."""

    @property
    def model(self) -> ModelInfo: ...


class Vocabulary(Protocol):
    """Text to token ids, at once and on the caller's own thread."""

    @property
    def start_token_ids(self) -> tuple[int, ...]:
        """The tokens with which every plain prompt begins."""

    @property
    def end_token_ids(self) -> tuple[int, ...]:
        """The tokens with which constrained decoding lets an answer end."""

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, without special tokens; text never becomes a special token."""

    def encode_template(self, text: str) -> list[int]:
        """Token ids of the service's own text: special tokens in it count; none is added."""


class Tokeniser(HasModel, Vocabulary, Protocol):
    """Prompts and texts of the model, read in the tenant's fair turns.

    `render` and `render_chat` raise InvalidRequest for a prompt longer than the model's context,
    with counts, and the errors of `prepare_prompt`, which they use.
    """

    @property
    def chat_frame(self) -> ChatFrame: ...

    async def render(self, prompt: str | Sequence[int], reading: Reading | None = None) -> Prompt:
        """Tokenise a plain prompt, or check the tokens of one."""

    async def render_chat(self, messages: Sequence[Message]) -> Prompt:
        """Apply the model's chat template and tokenise, ready for the assistant's answer."""

    async def prepare(self, size: int, work: Callable[[], Result]) -> Result:
        """Do work that reads `size` bytes of text (`encode`, `decode`), in the tenant's fair turn.

        Raises what the work raises, TooManyRequests, QueueFull or DeadlineExceeded.
        """

    async def prepare_prompt(self, size: int, work: Callable[[], Result]) -> Result:
        """Do the work of `prepare` for the current request's prompt, unless the gate refuses it."""

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of token ids, special tokens included; InvalidRequest for an unknown id."""


class Reader(HasModel, Protocol):
    """Label reads; each takes a permit at the gate and raises what a Generator's answer does."""

    async def label_logprobs(
        self, prompt: Prompt, token_ids: Sequence[int], adapter: Adapter | None
    ) -> LabelLogprobs:
        """Log-probabilities of at most MAX_READ_IDS tokens as the next one."""


class AdapterHost(HasModel, Protocol):
    """Room for adapters beside the base model."""

    async def load_adapter(self, adapter: Adapter) -> None:
        """Load an adapter's weights; ConfigurationError if the engine refuses them.

        More may be loaded than the engine has room for: the least recently used one leaves, and
        comes back from its folder when a request needs it.
        """

    async def unload_adapter(self, adapter: Adapter) -> None:
        """Forget an adapter's weights; nothing happens if they are not resident."""

    async def resident_adapters(self) -> frozenset[int]:
        """The `engine_id` of every adapter whose weights are in the engine's memory."""

    async def adapter_usage(self) -> Mapping[int, AdapterUsage]:
        """Work with every loaded adapter, resident or not, by `engine_id`."""


class Pulse(Protocol):
    """Signs of life of an engine."""

    @property
    def last_step(self) -> float:
        """Time of the engine's last step, in seconds of `time.monotonic`."""

    def vitals(self) -> Vitals | None:
        """Activity of the engine's processes; None if the system does not tell it."""

    async def probe(self) -> None:
        """Make one step, past the gate; raises EngineDead if the engine ends meanwhile."""

    async def check(self) -> None:
        """Raise EngineDead if the engine has ended."""


class LabelEngine(Tokeniser, Reader, Protocol):
    """Roles that classification needs."""
