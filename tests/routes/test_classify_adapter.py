"""POST /v1/classify with an adapter that has labels of its own."""

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from tests.adapters.proven import INPUTS, best_label, proven, served_base, sources
from tests.adapters.samples import write_base
from tests.answers import refusal
from tests.live_service import LiveService

ADAPTER = "sentiment"


@pytest.fixture
async def serving(tmp_path: Path) -> AsyncGenerator[LiveService, None]:
    base = write_base(tmp_path / "base")
    folder = tmp_path / "adapter"
    await proven(folder, served_base(base), name=ADAPTER)
    live = LiveService(
        model_path=base, adapters=sources(folder), adapter_cache={"path": tmp_path / "cache"}
    )
    with live:
        yield live


async def test_an_adapter_answers_with_its_own_labels(serving: LiveService, tmp_path: Path) -> None:
    async with serving.client() as client:
        response = await client.post(
            "/v1/classify", json={"model": ADAPTER, "input": list(INPUTS), "top_k": 1}
        )
    assert response.status_code == 200, response.text
    answer = response.json()
    expected = [await best_label(tmp_path / "adapter", text) for text in INPUTS]
    assert answer["model"] == ADAPTER
    assert [item["scores"][0]["label"] for item in answer["data"]] == expected
    for item in answer["data"]:
        assert sum(item["probs"]) == pytest.approx(1)
    counted = {
        label: serving.value("inference_classifications_total", model=ADAPTER, label=label)
        for label in ("positive", "negative", "other")
    }
    given = [item["label"] for item in answer["data"]]
    assert counted == {
        "positive": given.count("positive"),
        "negative": given.count("negative"),
        "other": 0,
    }


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"candidate_labels": ["a", "b"]}, "candidate_labels"),
        ({"instruction": "Classify."}, "instruction"),
        ({"template": "{input}\nLabel:"}, "template"),
        ({"calibrate": False}, "calibrate"),
        ({"multi_label": True}, "multi_label"),
    ],
)
async def test_what_contradicts_the_adapter_is_refused(
    serving: LiveService, fields: dict[str, Any], param: str
) -> None:
    async with serving.client() as client:
        response = await client.post(
            "/v1/classify", json={"model": ADAPTER, "input": "good"} | fields
        )
    error = refusal(response, 400)
    assert error["param"] == param
    assert "adapter" in error["message"]
