"""The protocols between the service and an engine: the engine's own, and those of its callers.

Admission, tenants, guards and rollouts call an engine through this contract alone. An engine knows
none of them: it runs what it is given, at the priority that it is given.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from service.engine.protocol import (
    Adapter,
    AdapterUsage,
    Chat,
    ChatFrame,
    LabelLogprobs,
    Message,
    ModelInfo,
    PreparedChat,
    Reading,
    Sampling,
    Vitals,
)

Result = TypeVar("Result")


@dataclass(slots=True)
class Query:
    """One request to an engine, under an `id` that no other has; the admission fills it in.

    A query of smaller `priority` runs first. Prompts with different `cache_salt` share no cached
    blocks.
    """

    prompt: Sequence[int] = field(repr=False)
    _: KW_ONLY
    adapter: Adapter | None = None
    id: str = ""
    cache_salt: str = field(default="", repr=False)
    priority: int = 0
    trace_headers: Mapping[str, str] | None = None


@dataclass(slots=True)
class Job(Query):
    """One generation; `options` are engine-specific, from its chat format.

    Calling `end` while the job runs makes the engine end it as if it had reached its maximum of
    tokens.
    """

    sampling: Sampling
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    end: Callable[[], None] = field(default=lambda: None, repr=False)


@dataclass(slots=True)
class LabelQuery(Query):
    """A query for the log-probabilities of these tokens right after the prompt."""

    token_ids: tuple[int, ...]


@dataclass(slots=True)
class PoolQuery(Query):
    """A query for the values of a passage; `parameters` are engine-specific."""

    parameters: Any = field(repr=False)


@dataclass(frozen=True, slots=True)
class Pooled:
    """Values of one passage, [width] or as many as `dimensions` asked for, and their tokens."""

    values: npt.NDArray[np.float32]
    prompt_tokens: int
    cached_tokens: int


class Likely(Protocol):
    """The log-probability of a token, and its text."""

    @property
    def logprob(self) -> float: ...

    @property
    def decoded_token(self) -> str | None: ...


TokenLogprobs = Mapping[int, Likely]
"""Log-probabilities at one place by token id: the token's own first, then the most likely ones."""


@dataclass(slots=True)
class Part:
    """New text of one sequence in one step, and its tokens.

    `logprobs` has an entry for each token if they were asked for. `finish_reason` is `stop` or
    `length` in the sequence's last part, and `stop_reason` the string or token that ended it.
    """

    index: int
    text: str
    token_ids: Sequence[int]
    finish_reason: str | None = None
    stop_reason: int | str | None = None
    logprobs: Sequence[TokenLogprobs | None] | None = None


@dataclass(slots=True)
class Output:
    """The output of a job in one step: parts of one or more of its sequences.

    `engine_wait` is how long the engine held the request before its first step, in seconds, if the
    engine reports it. `mask_seconds` is the time of computing the structure's token masks, for
    which other requests waited. `created_tokens` is how many prompt tokens were added to the cache,
    None if the engine does not report it. `prompt_logprobs` come with one output of the job.
    """

    parts: Sequence[Part]
    prompt_tokens: int
    cached_tokens: int = 0
    created_tokens: int | None = None
    engine_wait: float | None = None
    mask_seconds: float = 0.0
    prompt_logprobs: Sequence[TokenLogprobs | None] | None = None


class TextSink(Protocol):
    """Takes the steps of a job that add text and nothing else."""

    def add(self, text: str, tokens: int) -> None:
        """Buffer a step's text, of `tokens` tokens, until `release`."""

    def release(self) -> None:
        """Pass on the buffered text."""


class Sink(Protocol):
    """Takes the outputs of one job."""

    def take(self, output: Output) -> TextSink | None:
        """Take an output; returns the sink for later steps of text alone, None to get outputs."""

    @property
    def restart(self) -> Callable[[], None] | None:
        """Discards all outputs before a new run; None for a sink that sends them on."""


class Engine(Protocol):
    """One model on its engine.

    `run`, `logprobs` and `pool` raise EngineDead if the engine ends meanwhile, InvalidRequest for
    what it refuses, and what a sink raises. A call that is cancelled ends the engine's request,
    too.
    """

    async def run(self, job: Job, sink: Sink) -> None:
        """Run a generation, and hand its outputs to the sink in the engine's own steps."""

    async def logprobs(self, query: LabelQuery) -> LabelLogprobs:
        """Log-probabilities of given tokens directly after a prompt."""

    async def pool(self, query: PoolQuery) -> Pooled:
        """The values of a passage; ServiceError for values that are not finite."""

    async def load(self, adapter: Adapter) -> None:
        """Load an adapter's weights; ConfigurationError if the engine refuses them.

        More may be loaded than the engine has room for: the least recently used one leaves, and
        comes back from its folder when a request needs it.
        """

    async def unload(self, adapter: Adapter) -> None:
        """Forget an adapter's weights; nothing happens if they are not resident."""

    async def resident(self) -> frozenset[int]:
        """The `engine_id` of every adapter whose weights are in the engine's memory."""

    async def adapters(self) -> Mapping[int, AdapterUsage]:
        """Work with every loaded adapter, by `engine_id`."""

    async def stop(self) -> None:
        """End the engine and free what it holds."""


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


class LanguageEngine(Engine, Pulse, Protocol):
    """The engine of a language model, which is warmed up and watched."""

    @property
    def model(self) -> ModelInfo:
        """The base model as served."""

    async def warm_up(self) -> None:
        """Run each code path once, so that no user waits for what is compiled at first use.

        Raises EngineDead if the engine ends, ConfigurationError if it takes too long.
        """


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


class Structures(Protocol):
    """Compiles the structures of answers before they are admitted."""

    def compiled(self, sampling: Sampling) -> AbstractAsyncContextManager[Sampling]:
        """Compile a structure, in the tenant's fair turns, for a block that runs it.

        Raises InvalidRequest for one that cannot be enforced or takes too long.
        """

    def stop(self) -> None:
        """End what compiles."""


class LabelEngine(Vocabulary, Protocol):
    """What classification needs of a model; prompts are read in the tenant's fair turns."""

    @property
    def model(self) -> ModelInfo: ...

    @property
    def chat_frame(self) -> ChatFrame: ...

    async def prepare(self, size: int, work: Callable[[], Result]) -> Result:
        """Do work that reads `size` bytes of text, in the tenant's fair turn.

        Raises what the work raises, TooManyRequests, QueueFull or DeadlineExceeded.
        """

    async def prepare_prompt(self, size: int, work: Callable[[], Result]) -> Result:
        """Do the work of `prepare` for the current request's prompt, unless the gate refuses it."""

    async def label_logprobs(
        self, prompt: list[int], token_ids: Sequence[int], adapter: Adapter | None
    ) -> LabelLogprobs:
        """Log-probabilities of at most MAX_READ_IDS tokens as the next one.

        Takes a place at the gate: QueueFull, DeadlineExceeded or EngineDead.
        """


class Writer(Protocol):
    """Takes the parts of a streamed answer, in order.

    `busy` is true while the client does not read: parts that are written then are queued and
    joined. Callers that can merge several parts into one should wait until `on_free` is called.
    """

    on_free: Callable[[], None]

    @property
    def busy(self) -> bool: ...

    def write(self, part: bytes) -> None: ...

    async def flush(self) -> None:
        """Wait until the client has taken all parts; raises the error of a part that failed."""
