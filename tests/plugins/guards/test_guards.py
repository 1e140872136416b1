"""Guards that can never judge, found before the service is ready."""

from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from service.adapters.choice import Models
from service.admission.controller import AdmissionController
from service.errors import ConfigurationError
from service.plugins.guards.guards import GuardMetrics, Guards
from service.plugins.guards.settings import GuardsSettings
from service.settings.admission import AdmissionSettings, PreparationSettings
from service.settings.encoders import EncoderSettings
from service.telemetry.metrics import Metrics
from tests.fake_encoder import start_fake_encoder

NEWS: dict[str, Any] = {"model": "classify", "labels": ["weather"], "threshold": 0.5}


async def check(**changed: Any) -> None:
    metrics, preparation = Metrics(CollectorRegistry()), PreparationSettings()
    encoders = {}
    for name in ("classify", "embed"):
        admission = AdmissionController(AdmissionSettings(), metrics.of_engine(name))
        settings = EncoderSettings(name=name, path="unused")
        encoders[name] = await start_fake_encoder(settings, admission, metrics, preparation)
    models = Models(None, encoders | {"broken": None})
    named = GuardsSettings(named={"one": NEWS | changed})
    await Guards(named, models, GuardMetrics(CollectorRegistry())).check()


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"model": "nothing"}, "guards.named.one: .*'nothing'"),
        ({"model": "embed"}, "guards.named.one: .*'embed' is an encoder for /v1/embeddings"),
        ({"threshold": None}, "must be set, as the manifest of classify has none"),
        ({"labels": ["wether"]}, "has no label 'wether'; did you mean 'weather'?"),
    ],
)
async def test_a_guard_that_cannot_judge_ends_the_start(
    changed: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        await check(**changed)


async def test_others_are_ready_and_a_model_in_quarantine_is_left_to_requests(
    caplog: pytest.LogCaptureFixture,
) -> None:
    await check()
    assert not caplog.text
    await check(model="broken")
    assert "guard one: model: the encoder 'broken' could not start" in caplog.text
