"""What the service asks of an engine: eight calls, and the values that pass.

Admission, tenants, guards and rollouts stand before an engine and know it by this contract alone.
An engine knows none of them: it runs what it is handed, at the priority that it is told.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from service.engine.pooling import Pooled
from service.engine.protocol import Adapter, AdapterUsage, LabelLogprobs, TextSink, Vitals

Output = TypeVar("Output", contravariant=True)


def _nothing() -> None:
    """Do nothing."""


@dataclass(slots=True)
class Job:
    """One generation, under an `id` that no other job has.

    `prompt` holds `prompt_token_ids`, and the text as `prompt` where the caller gave one.
    `parameters` are sampling parameters of the engine's own kind; `prepared` if the engine has
    completed them before. Of two jobs the one of the smaller `priority` goes first; prompts with
    another `cache_salt` share no cached blocks. `options` are passed on as they are.

    While a job runs, `end` has the engine end it as if it had reached its maximum of tokens.
    """

    id: str
    prompt: Mapping[str, Any] = field(repr=False)
    parameters: Any = field(repr=False)
    adapter: Any = None
    cache_salt: str = field(default="", repr=False)
    priority: int = 0
    trace_headers: Mapping[str, str] | None = None
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    prepared: bool = False
    end: Callable[[], None] = field(default=_nothing, repr=False)


@dataclass(slots=True)
class Progress:
    """Progress of a stream after an item: its prompt's tokens and the item's new tokens.

    `engine_wait` is how long the engine held the request before its first step, in seconds, where
    it says so. `cut` is set where an answer of a requested structure ended: True if it was cut.
    `mask_seconds` were taken to find the tokens that the structure allows, while others waited.
    """

    prompt_tokens: int
    cached_tokens: int
    new_tokens: int
    engine_wait: float | None = None
    cut: bool | None = None
    mask_seconds: float = 0.0


@dataclass(slots=True)
class LabelQuery:
    """Next-token log-probabilities that are asked for; the fields are those of a `Job`."""

    id: str
    prompt: Sequence[int] = field(repr=False)
    token_ids: tuple[int, ...]
    adapter: Any = None
    cache_salt: str = field(default="", repr=False)
    priority: int = 0
    trace_headers: Mapping[str, str] | None = None


@dataclass(slots=True)
class PoolQuery:
    """The values of a passage that are asked for; `parameters` are of the engine's own kind."""

    id: str
    prompt: Sequence[int] = field(repr=False)
    parameters: Any = field(repr=False)
    cache_salt: str = field(default="", repr=False)
    priority: int = 0


class Sink(Protocol[Output]):
    """Takes the outputs of one job."""

    def take(self, output: Output) -> TextSink | None:
        """Take an output; returns the sink for later outputs of text alone, None to get outputs."""

    @property
    def restart(self) -> Callable[[], None] | None:
        """Forgets all outputs, to take them again from the first; None if the sink sends them."""


class Meter(Protocol):
    """Is told of tokens as the engine makes them."""

    @property
    def ticket(self) -> Any:
        """What the gate knows the stream by, for a charge of many streams at once."""

    @property
    def begun(self) -> bool:
        """True once the first item was counted."""

    @property
    def tokens(self) -> int:
        """Output tokens counted so far."""

    def add(self, item: Progress) -> None:
        """Count an item, and charge for it."""

    def count(self, tokens: int, now: float) -> None:
        """Count tokens after the first item, which are charged apart."""


class Engine(Protocol):
    """One model on its engine.

    `run`, `logprobs` and `pool` raise EngineDead if the engine ends meanwhile, InvalidRequest for
    what it refuses, and what a sink or a meter raises. A call that is cancelled ends the engine's
    request, too.
    """

    async def run(self, job: Job, sink: Sink[Any], meter: Meter) -> None:
        """Run a generation, and hand its outputs to the sink in the engine's own steps.

        An answer that is wanted whole is one output; its tokens are counted as they are made.
        """

    async def logprobs(self, query: LabelQuery, meter: Meter) -> LabelLogprobs:
        """Log-probabilities of given tokens directly after a prompt."""

    async def pool(self, query: PoolQuery) -> Pooled:
        """The values of a passage; ServiceError for values that are not finite."""

    async def load(self, adapter: Adapter) -> None:
        """Load an adapter's weights; ConfigurationError if the engine refuses them."""

    async def unload(self, adapter: Adapter) -> None:
        """Forget an adapter's weights; nothing happens if they are not resident."""

    async def adapters(self) -> Mapping[int, AdapterUsage]:
        """Work with every loaded adapter, by `engine_id`."""

    def vitals(self) -> Vitals | None:
        """Activity of the engine's processes; None if the system does not tell it."""

    async def probe(self) -> None:
        """Make one step; raises EngineDead if the engine ends meanwhile."""

    async def stop(self) -> None:
        """End the engine and free what it holds."""
