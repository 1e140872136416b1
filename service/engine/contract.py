"""The contract that every engine keeps, and the values that pass between it and the service.

Admission, tenants, guards and rollouts call an engine through this contract alone. An engine knows
none of them: it runs what it is given, at the priority that it is given.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class AnswerOptions:
    """The operator's options for what OpenAI-style answers contain.

    `fingerprint` names the version and configuration of the engine. With `cached_tokens` the usage
    includes the tokens that came from the cache, and with `usage_always` each stream ends with its
    usage. With `tokens_as_ids` log-probabilities name tokens by id, such as `token_id:17`.
    """

    fingerprint: str | None = None
    cached_tokens: bool = True
    usage_always: bool = False
    tokens_as_ids: bool = False


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """The base model as served.

    No token stands for more than `max_token_chars` characters. A `max_lora_rank` of 0 means no
    adapters. `client` is how the service reaches vLLM, `stock`, `fast` or `remote`, and `vllm` its
    version; both are empty for another engine. `client_notes` say why the fast client is not used,
    that vLLM's version is not a tested one, or what remote engines lack.
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
        """The name in the engine, unique for each version: cached blocks are keyed by it."""
        return f"{self.name}@{self.digest.removeprefix('sha256:')[:12]}"


@dataclass(frozen=True, slots=True)
class AdapterUsage:
    """Work of the engine with an adapter since it was loaded.

    `requests` is the number of requests that got their first token. The engine had to read the
    weights again `reads` times, which took `read_seconds` in all. One read serves all requests that
    wait for it.
    """

    requests: int
    reads: int
    read_seconds: float


@dataclass(frozen=True, slots=True)
class Structure:
    """A constraint on the answer: one of `json_schema`, `regex`, `choice`, `json_object`, `own`.

    `own` is an engine-specific constraint, which its chat format made. `asked` is False for a
    constraint that the request did not ask for, which only keeps tool calls well-formed. A `strict`
    constraint is refused unless all of it can be enforced. Otherwise `unenforced` lists, after
    compilation, the schema's keywords that the engine does not enforce, each with its path.
    """

    json_schema: Mapping[str, object] | bool | None = None
    regex: str | None = None
    choice: Sequence[str] | None = None
    json_object: bool = False
    own: Any = field(default=None, repr=False)
    asked: bool = True
    strict: bool = True
    unenforced: tuple[str, ...] = ()

    @property
    def is_checked(self) -> bool:
        """True if whole answers must be checked by the schema."""
        return bool(self.unenforced) and self.json_schema is not None


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
    """Log-probabilities of the requested next tokens, in order, over the full vocabulary.

    `likeliest` is the token of the whole vocabulary with the largest one. `engine_wait` is how long
    the engine held the request before its step, in seconds, if the engine reports it.
    """

    logprobs: Sequence[float]
    likeliest: int
    prompt_tokens: int
    cached_tokens: int
    engine_wait: float | None = None


@dataclass(frozen=True, slots=True)
class Vitals:
    """Activity of the engine's processes: the CPU time they used so far, in seconds.

    `stopped` is true if a signal has stopped a process. `loading` is true while an adapter is being
    loaded, when the engine makes no step.
    """

    cpu_seconds: float
    stopped: bool = False
    loading: bool = False


MAX_READ_IDS = 128
"""Token ids that one label read may ask for (vLLM's own limit)."""


MAX_LABELS = 256
"""Labels of one classification."""


@dataclass(slots=True)
class Query:
    """One request to an engine; the admission fills in its fields.

    `id` is unique, and a smaller `priority` runs first. Prompts with different `cache_salt` share
    no cached blocks.
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

    Calling `end` while the job runs makes the engine end it as if it had reached `max_tokens`.
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
    """The values of one passage, as many as `width` or `dimensions` says, and its tokens."""

    values: npt.NDArray[np.float32]
    prompt_tokens: int
    cached_tokens: int


class Likely(Protocol):
    """A token with its log-probability and its text."""

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

    `cached_tokens` of the prompt came from the cache, which only the last output may know.
    `engine_wait` is how long the engine held the request before its first step, in seconds, if the
    engine reports it. `mask_seconds` is the time spent on the structure's token masks, during which
    other requests waited. `created_tokens` is how many prompt tokens were added to the cache, None
    if the engine does not report it. `prompt_logprobs` come with one output of the job.
    """

    parts: Sequence[Part]
    prompt_tokens: int
    cached_tokens: int = 0
    created_tokens: int | None = None
    engine_wait: float | None = None
    mask_seconds: float = 0.0
    prompt_logprobs: Sequence[TokenLogprobs | None] | None = None


class TextSink(Protocol):
    """Takes steps of a job that only add text."""

    def add(self, text: str, tokens: int) -> None:
        """Buffer a step's text, of `tokens` tokens, until `release`."""

    def release(self) -> None:
        """Pass on the buffered text."""


class Sink(Protocol):
    """Takes the outputs of one job."""

    def take(self, output: Output) -> TextSink | None:
        """Take an output; returns a sink for later text-only steps, None to get outputs."""

    @property
    def restart(self) -> Callable[[], None] | None:
        """Discard all outputs before a new run; None for a sink that has already sent them on."""


class Engine(Protocol):
    """One model on its engine.

    `run`, `logprobs` and `pool` raise EngineDead if the engine ends meanwhile, InvalidRequest for
    what it refuses, and what a sink raises. A call that is cancelled ends the engine's request,
    too.
    """

    async def run(self, job: Job, sink: Sink) -> None:
        """Run a generation, and pass its outputs to the sink step by step."""

    async def logprobs(self, query: LabelQuery) -> LabelLogprobs:
        """Log-probabilities of given tokens directly after a prompt."""

    async def pool(self, query: PoolQuery) -> Pooled:
        """The values of a passage; ServiceError for values that are not finite."""

    async def load(self, adapter: Adapter) -> None:
        """Load an adapter's weights; ConfigurationError if the engine refuses them.

        More adapters may be loaded than the engine has slots for: the least recently used one is
        evicted, and read again from its folder when a request needs it.
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
        """Activity of the engine's processes; None if the system does not report it."""

    async def probe(self) -> None:
        """Make one step, past admission control; raises EngineDead if the engine ends meanwhile."""

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


class Structures(Protocol):
    """Compiles the structures of answers before they are admitted."""

    def compiled(self, sampling: Sampling) -> AbstractAsyncContextManager[Sampling]:
        """Compile a structure, in the tenant's fair turns, before a block that uses it.

        Raises InvalidRequest if it cannot be compiled or takes too long, UnsupportedFeature for a
        strict one of which a part cannot be enforced.
        """

    def stop(self) -> None:
        """Stop the compiler."""
