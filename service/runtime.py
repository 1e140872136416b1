"""The parts of one running service, as the composition root put them together."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum

from service.adapters.registry import AdapterRegistry
from service.classification.question_cache import QuestionCache
from service.engine.protocol import Engine
from service.gate.gate import Gate
from service.settings import Settings
from service.telemetry.metrics import Metrics


class Phase(Enum):
    """Where a service is in its life; it only moves forward."""

    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"


class Status:
    """The phase, shared with the operations port, which lives in a thread of its own."""

    def __init__(self) -> None:
        self.phase = Phase.STARTING
        self.failure: Exception | None = None

    @contextmanager
    def remembered(self) -> Iterator[None]:
        """Keep what goes wrong here: the server would only log it."""
        try:
            yield
        except Exception as error:
            self.failure = error
            raise


@dataclass(frozen=True, slots=True)
class Runtime:
    """What a route needs; it exists once the engine is up and the adapters are loaded."""

    settings: Settings
    metrics: Metrics
    gate: Gate
    engine: Engine
    adapters: AdapterRegistry
    questions: QuestionCache
