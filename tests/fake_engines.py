"""The fake engine behind admission control, without HTTP."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry

from service.admission.controller import AdmissionController
from service.context import enter_context, internal_context
from service.engine.contract import ModelInfo, Structures
from service.settings.admission import AdmissionSettings
from service.telemetry.metrics import Metrics
from tests.staged_engine import StagedEngine, StagedModel


def fake_engine(
    *,
    capacity: int = 4,
    max_model_len: int = 512,
    max_lora_rank: int = 8,
    token_seconds: float = 0.0,
    max_queued: int = 100,
    structures: Callable[[AdmissionController], Structures] | None = None,
) -> tuple[StagedModel, AdmissionController]:
    """A fake engine and its admission; the running task becomes a request with 30 s to spend."""
    metrics = Metrics(CollectorRegistry())
    admission = AdmissionController(
        AdmissionSettings(max_queued=max_queued), metrics.of_engine("fake"), capacity
    )
    model = ModelInfo(
        "fake", "sha256:fake", max_model_len, capacity, max_lora_rank, max_token_chars=1
    )
    enter_context(internal_context("test", 30.0))
    engine = StagedEngine(model, token_seconds=token_seconds)
    compiler = structures(admission) if structures else None
    return StagedModel(engine, admission, metrics, structures=compiler), admission
