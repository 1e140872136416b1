"""Start of the encoders: all that are required run, or none."""

from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from service.errors import ConfigurationError
from service.runtime.running import running_encoders
from service.settings.tree import Settings
from service.telemetry.metrics import Metrics
from tests.fake_encoder import FakeEncoder, start_fake_encoder

EMBED: dict[str, Any] = {"name": "embed", "path": "unused", "max_in_flight": 2}
BROKEN: dict[str, Any] = {"name": "broken", "path": "unused"}


def settings(*encoders: dict[str, Any]) -> Settings:
    return Settings(model={"name": "fake", "path": "unused"}, encoders=encoders)


async def test_each_encoder_has_an_admission_of_its_own_capacity() -> None:
    metrics = Metrics(CollectorRegistry())
    wanted = settings(EMBED, EMBED | {"name": "embed-2", "max_in_flight": 3})
    async with running_encoders(wanted, start_fake_encoder, metrics) as encoders:
        assert [each and each.admission.capacity for each in encoders.values()] == [2, 3]
        assert all(each and isinstance(each.engine, FakeEncoder) for each in encoders.values())


async def test_a_required_encoder_that_fails_ends_the_start() -> None:
    metrics = Metrics(CollectorRegistry())
    with pytest.raises(ConfigurationError, match="encoder broken"):
        async with running_encoders(settings(EMBED, BROKEN), start_fake_encoder, metrics):
            pass


async def test_another_one_is_quarantined() -> None:
    metrics = Metrics(CollectorRegistry())
    wanted = settings(BROKEN | {"required": False}, EMBED)
    async with running_encoders(wanted, start_fake_encoder, metrics) as encoders:
        assert encoders["broken"] is None
        assert encoders["embed"] is not None


async def test_a_service_without_a_model_needs_one_that_runs() -> None:
    wanted = Settings(encoders=[BROKEN | {"required": False}])
    with pytest.raises(ConfigurationError, match="none could start"):
        async with running_encoders(wanted, start_fake_encoder, Metrics(CollectorRegistry())):
            pass


@pytest.mark.parametrize("name", ["fake", "embed"])
def test_a_name_is_given_once(name: str) -> None:
    with pytest.raises(ValueError, match="is taken already"):
        settings(EMBED, EMBED | {"name": name})
