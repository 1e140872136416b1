"""The parts of one running service, and the requests that it answers now."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from service.adapters.registry import Models
from service.classification.question_cache import QuestionCache
from service.engine.pooling import EncoderEngine
from service.engine.roles import LanguageModel as ServedLanguageModel
from service.errors import ServiceError
from service.plugins.batches.batches import Batches
from service.plugins.feedback.feedback import Feedback
from service.plugins.guards.guards import Guards
from service.plugins.guards.policies import Policies
from service.plugins.usage.ledger import Ledger
from service.runtime.status import Status
from service.settings.tree import Settings
from service.telemetry.metrics import Metrics


class OpenRequests:
    """Counts requests from their first byte to their last; belongs to one event loop."""

    def __init__(self) -> None:
        self.count = 0
        self._refusal: Callable[[], ServiceError] | None = None
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def closing(self) -> bool:
        """True while new requests are refused."""
        return self._refusal is not None

    def check(self) -> None:
        """Raise the error for a new request, after `close`."""
        if self._refusal:
            raise self._refusal()

    @contextmanager
    def one(self) -> Iterator[None]:
        """Count a request while the block runs."""
        self.count += 1
        self._empty.clear()
        try:
            yield
        finally:
            self.count -= 1
            if not self.count:
                self._empty.set()

    def close(self, refusal: Callable[[], ServiceError]) -> None:
        """Refuse new requests with errors that `refusal` makes; those that are open go on."""
        self._refusal = refusal

    async def wait_until_none(self) -> None:
        """Wait until no request is open."""
        await self._empty.wait()


@dataclass(frozen=True, slots=True)
class LanguageModel:
    """The engine of the base model and its adapters, and the base's classifiers."""

    engine: ServedLanguageModel
    questions: QuestionCache


@dataclass(frozen=True, slots=True)
class Runtime:
    """Parts that a route needs; they exist once the engines are up and the adapters are loaded.

    `language_model` is None in a service of encoders alone.
    """

    settings: Settings
    status: Status
    metrics: Metrics
    language_model: LanguageModel | None
    encoders: Sequence[EncoderEngine]
    models: Models
    guards: Guards
    policies: Policies
    batches: Batches | None
    usage: Ledger | None
    feedback: Feedback

    @property
    def base(self) -> LanguageModel:
        """The language model, for routes that are there only with one."""
        assert self.language_model is not None
        return self.language_model
