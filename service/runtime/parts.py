"""The parts of one running service, as the composition root put them together."""

from collections.abc import Sequence
from dataclasses import dataclass

from service.batches.batches import Batches
from service.classification.question_cache import QuestionCache
from service.engine.pooling import EncoderEngine
from service.engine.protocol import Engine
from service.fleet.models import Models
from service.runtime.status import Status
from service.settings.tree import Settings
from service.telemetry.metrics import Metrics
from service.usage.ledger import Ledger


@dataclass(frozen=True, slots=True)
class Runtime:
    """Parts that a route needs; they exist once the engine is up and the adapters are loaded."""

    settings: Settings
    status: Status
    metrics: Metrics
    engine: Engine
    encoders: Sequence[EncoderEngine]
    models: Models
    questions: QuestionCache
    batches: Batches | None
    usage: Ledger | None
