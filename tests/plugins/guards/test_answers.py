"""Answers as guards let them pass, over a fake encoder that knows no words."""

from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from service.adapters.choice import Models
from service.admission.controller import AdmissionController
from service.context import internal_request
from service.context.answer import Guarded
from service.errors import OutputFlagged
from service.plugins.guards.guards import GuardMetrics, Guards
from service.plugins.guards.held import sentences
from service.plugins.guards.policies import MARKER, GuardedAnswer, Policies
from service.plugins.guards.settings import GuardsSettings
from service.settings.admission import AdmissionSettings, PreparationSettings
from service.settings.encoders import EncoderSettings
from service.telemetry.metrics import Metrics
from tests.fake_encoder import start_fake_encoder

TEXT = "".join(f"This is sentence number {number} of all. " for number in range(12))
THRESHOLD = 0.5


async def read(on: str, text: str = TEXT, **fields: Any) -> tuple[str, list[bool], tuple[str, ...]]:
    """The text that passes, which of its sentences the guard flags, and the noted flags."""
    metrics, preparation = Metrics(CollectorRegistry()), PreparationSettings()
    encoder = await start_fake_encoder(
        EncoderSettings(name="classify", path="unused"),
        AdmissionController(AdmissionSettings(), metrics.of_engine("classify")),
        metrics,
        preparation,
    )
    settings = GuardsSettings(
        named={"one": {"model": "classify", "labels": ["weather"], "threshold": THRESHOLD}},
        default={"output": ["one"], "on": on},
    )
    counts = GuardMetrics(CollectorRegistry())
    guards = Guards(settings, Models(None, {"classify": encoder}), counts)
    policies = Policies(settings, guards, counts)
    tools, structured = fields.get("tools", False), fields.get("structured", False)
    async with internal_request("test", 5.0) as context:
        verdicts = await guards.read("one", sentences(text), context)
        answer = GuardedAnswer(policies, settings.default, context, tools=tools)
        passed = await answer.read(text, structured=structured)
        return (
            passed,
            [bool(verdict.flagged) for verdict in verdicts],
            context.extended(Guarded).flags,
        )


async def test_a_marker_stands_for_each_flagged_sentence_alone() -> None:
    passed, flagged, _ = await read("redact")
    assert 0 < sum(flagged) < len(flagged)
    expected = [
        f"{MARKER} " if each else piece
        for piece, each in zip(sentences(TEXT), flagged, strict=True)
    ]
    assert passed == "".join(expected)


@pytest.mark.parametrize("fields", [{"tools": True}, {"structured": True}])
async def test_what_a_marker_would_break_is_refused(fields: dict[str, bool]) -> None:
    (flagged,) = [each for each in sentences(TEXT) if MARKER in (await read("redact", each))[0]][:1]
    with pytest.raises(OutputFlagged, match="'one' found 'weather'"):
        await read("redact", flagged, **fields)


async def test_a_flag_changes_nothing() -> None:
    for piece in sentences(TEXT):
        passed, flagged, flags = await read("flag", piece)
        assert passed == piece
        assert flags == (("one/weather",) if flagged[0] else ())
