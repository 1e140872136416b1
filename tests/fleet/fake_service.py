"""The service on the fake engine, as a program of its own, so that a check can kill it.

python -m tests.fleet.fake_service serve --config FILE
"""

import sys
from pathlib import Path

import service.app
from service.admission.controller import AdmissionController
from service.engine.contract import ModelInfo
from service.generation.served_model import ServedModel
from service.settings.load import load_settings
from service.settings.tree import Settings
from service.telemetry.logs import configure_logging
from service.telemetry.metrics import Metrics
from tests.fake_encoder import start_fake_encoder
from tools.fake_engine import FakeEngine, FakeModel

CAPACITY = 8


async def start_model(
    settings: Settings, admission: AdmissionController, metrics: Metrics
) -> ServedModel:
    """A fake engine behind admission control."""
    model = ModelInfo(
        settings.base.name, "sha256:fake", 512, CAPACITY, max_lora_rank=8, max_token_chars=1
    )
    admission.capacity = CAPACITY
    return FakeModel(FakeEngine(model), admission, metrics, settings.preparation)


def main(file: Path) -> None:
    """Serve a configuration until asked to stop."""
    settings = load_settings(file)
    configure_logging(settings.log)
    service.app._starts = lambda *_: (start_model, start_fake_encoder)
    service.app.run(settings, lambda: load_settings(file))


if __name__ == "__main__":
    main(Path(sys.argv[-1]))
