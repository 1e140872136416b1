"""Garbage that requests leave behind: none that only the collector would free."""

import gc
from collections.abc import Generator
from typing import Any

import pytest
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from service.context import RequestContext
from service.settings.admission import AdmissionSettings
from tests.live_service import LiveService


@pytest.fixture
def _uncollected() -> Generator[None, None, None]:
    """Garbage is kept until the test looks for it, in what has been allocated since."""
    gc.freeze()  # a collection of all that many tests have left would take seconds
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    yield
    gc.set_debug(0)
    gc.garbage.clear()
    gc.enable()


@pytest.mark.usefixtures("_uncollected")
@pytest.mark.parametrize("full", [False, True], ids=["served", "refused"])
@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/v1/generate", {"prompt": "Hello"}),
        ("/v1/generate", {"prompt": "Hello", "stream": True}),
        ("/v1/generate", {"prompt": ""}),
        ("/v1/classify", {"input": "Hello", "candidate_labels": ["a", "b"], "calibrate": False}),
    ],
    ids=["whole", "streamed", "invalid", "classified"],
)
async def test_a_request_that_has_ended_is_freed(
    path: str, fields: dict[str, Any], full: bool
) -> None:
    with LiveService(admission=AdmissionSettings(max_queued=0)) as live:
        if full:
            live.hold_every_slot()
        async with live.client() as client:
            for _ in range(3):
                await client.post(path, json={"model": "fake", **fields})
            gc.collect()
    kinds = {type(each) for each in gc.garbage}
    assert not kinds & {RequestContext, RequestResponseCycle}
