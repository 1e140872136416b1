"""The parts of one running service, as the composition root put them together."""

from collections.abc import Sequence
from dataclasses import dataclass

from service.batches.batches import Batches
from service.classification.question_cache import QuestionCache
from service.engine.pooling import EncoderEngine
from service.engine.roles import LanguageModel as ServedLanguageModel
from service.feedback.feedback import Feedback
from service.fleet.registry import Models
from service.guards.guards import Guards
from service.guards.policies import Policies
from service.runtime.status import Status
from service.settings.tree import Settings
from service.telemetry.metrics import Metrics
from service.usage.ledger import Ledger


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
