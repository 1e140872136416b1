"""TEI's routes over fake encoders: shapes, limits, rights and the switch."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from huggingface_hub import InferenceClient

from service.settings.tree import Settings, TenantSettings
from tests.answers import refusal
from tests.fake_encoder import LABELS, MAX_MODEL_LEN, WIDTH
from tests.live_service import LiveService
from tools.keys import bearer, entry, write_keys

NAMES = ("embed", "embed-short", "score", "classify")
ENCODERS = [{"name": name, "path": "unused"} for name in NAMES]
TEI = {"embed": "embed", "rerank": "score", "predict": "classify"}
LONG = "x" * (MAX_MODEL_LEN + 1)


@pytest.fixture(scope="module")
def tei() -> Iterator[LiveService]:
    with LiveService(model=None, encoders=ENCODERS, tei=TEI) as live:
        yield live


async def posted(live: LiveService, path: str, **body: Any) -> httpx.Response:
    async with live.client() as client:
        return await client.post(path, json=body)


async def answered(live: LiveService, path: str, **body: Any) -> Any:
    answer = await posted(live, path, **body)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_one_text_or_many_are_embedded(tei: LiveService) -> None:
    one = await answered(tei, "/embed", inputs="a", prompt_name=None, truncate=None)
    many = await answered(tei, "/embed", inputs=["a", "bc"])
    tokens = await answered(tei, "/embed", inputs=[[256, 97, 257]])
    assert len(many) == 2
    assert one == many[:1] == tokens
    assert np.linalg.norm(many, axis=1) == pytest.approx([1, 1], abs=1e-6)
    raw = await answered(tei, "/embed", inputs="a", normalize=False)
    assert np.linalg.norm(raw) != pytest.approx(1, abs=1e-2)
    assert np.array(raw) / np.linalg.norm(raw) == pytest.approx(np.array(one), abs=1e-6)


async def test_openais_route_gives_the_same_vectors(tei: LiveService) -> None:
    body = {"model": "embed", "input": "a"}
    (one,) = (await answered(tei, "/v1/embeddings", **body))["data"]
    assert (await answered(tei, "/embed", inputs="a"))[0] == pytest.approx(one["embedding"])


async def test_a_prompt_is_put_before_each_text() -> None:
    encoders = [{"name": "embed", "path": "unused", "prompts": {"query": "query: "}}]
    with LiveService(model=None, encoders=encoders, tei={"embed": "embed"}) as live:
        asked = await answered(live, "/embed", inputs=["a"], prompt_name="query")
        assert asked == await answered(live, "/embed", inputs=["query: a"])
        refused = await posted(live, "/embed", inputs="a", prompt_name="image")
    assert "must be one of query" in refusal(refused, 400)["message"]


async def test_dimensions_are_for_matryoshka_models(tei: LiveService) -> None:
    refused = await posted(tei, "/embed", inputs="a", dimensions=4)
    assert refusal(refused, 400)["param"] == "dimensions"
    with LiveService(model=None, encoders=ENCODERS, tei={"embed": "embed-short"}) as live:
        (short,) = await answered(live, "/embed", inputs="a", dimensions=4)
    assert len(short) == 4 < WIDTH
    assert np.linalg.norm(short) == pytest.approx(1, abs=1e-6)


async def test_texts_are_ranked(tei: LiveService) -> None:
    texts = ["one", "two", "three"]
    ranks = await answered(tei, "/rerank", query="q", texts=texts)
    assert [rank["score"] for rank in ranks] == sorted((r["score"] for r in ranks), reverse=True)
    assert sorted(rank["index"] for rank in ranks) == [0, 1, 2]
    assert all(rank.keys() == {"index", "score"} for rank in ranks)
    raw = await answered(tei, "/rerank", query="q", texts=texts, raw_scores=True, return_text=True)
    assert [rank["text"] for rank in raw] == [texts[rank["index"]] for rank in raw]
    for rank, own in zip(ranks, raw, strict=True):
        assert rank["index"] == own["index"]
        assert rank["score"] == pytest.approx(1 / (1 + np.exp(-own["score"])), abs=1e-6)


async def test_a_text_a_pair_or_a_batch_is_predicted(tei: LiveService) -> None:
    one = await answered(tei, "/predict", inputs="goal")
    assert {each["label"] for each in one} == set(LABELS)
    assert sum(each["score"] for each in one) == pytest.approx(1)
    assert one == sorted(one, key=lambda each: -each["score"])
    pair = await answered(tei, "/predict", inputs=["goal", "vote"])
    batch = await answered(tei, "/predict", inputs=[["goal"], ["goal", "vote"]])
    assert batch == [one, pair]
    logits = await answered(tei, "/predict", inputs="goal", raw_scores=True)
    assert [each["label"] for each in logits] == [each["label"] for each in one]
    found = np.exp([each["score"] for each in logits])
    assert found / found.sum() == pytest.approx([each["score"] for each in one])


@pytest.mark.parametrize(
    ("path", "body", "param", "says"),
    [
        ("/embed", {"inputs": ["a", LONG]}, "inputs", "inputs[1]: 67 tokens"),
        ("/embed", {"inputs": []}, "inputs", "inputs: 1..2048 texts, got 0"),
        ("/embed", {"inputs": [[]]}, "inputs", "inputs[0]: no tokens"),
        ("/rerank", {"query": "a", "texts": ["b", LONG]}, "texts", "texts[1]: "),
        ("/rerank", {"query": "", "texts": ["b"]}, "query", "query: 1.."),
        ("/rerank", {"query": "a", "texts": []}, "texts", "texts: 1..1000 texts, got 0"),
        ("/predict", {"inputs": LONG}, "inputs", "inputs: 67 tokens"),
        ("/predict", {"inputs": ["a", "b", "c"]}, "inputs", "inputs: one text or two, got 3"),
        ("/predict", {"inputs": [["a"], []]}, "inputs", "inputs[1]: one text or two, got 0"),
        ("/predict", {"inputs": "a", "return_text": True}, "return_text", "unknown field"),
    ],
)
async def test_what_cannot_be_read_is_named(
    tei: LiveService, path: str, body: dict[str, Any], param: str, says: str
) -> None:
    error = refusal(await posted(tei, path, **body), 400)
    assert error["param"] == param
    assert says in error["message"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/embed", {"inputs": LONG}),
        ("/rerank", {"query": "a", "texts": [LONG]}),
        ("/predict", {"inputs": LONG}),
    ],
)
async def test_a_longer_text_is_cut_where_that_is_asked_for_and_counted(
    tei: LiveService, path: str, body: dict[str, Any]
) -> None:
    before = tei.value("inference_truncated_inputs_total")
    await answered(tei, path, **body, truncate=True, truncation_direction="Right")
    assert tei.value("inference_truncated_inputs_total") == before + 1
    left = await posted(tei, path, **body, truncate=True, truncation_direction="left")
    assert refusal(left, 400)["param"] == "truncation_direction"


async def test_the_routes_are_off_unless_an_encoder_is_named() -> None:
    with LiveService(encoders=ENCODERS) as live:
        for path in ("/embed", "/rerank", "/predict"):
            refusal(await posted(live, path, inputs="a"), 404)
    with LiveService(encoders=ENCODERS, tei={"embed": "embed"}) as live:
        await answered(live, "/embed", inputs="a")
        error = refusal(await posted(live, "/predict", inputs="a"), 404)
        assert "tei.predict" in error["message"]


async def test_an_encoder_of_another_task_is_refused_with_its_routes() -> None:
    with LiveService(encoders=ENCODERS, tei={"embed": "score"}) as live:
        error = refusal(await posted(live, "/embed", inputs="a"), 400)
        assert "/v1/rerank" in error["message"]


def test_an_encoder_that_is_not_configured_is_refused() -> None:
    with pytest.raises(ValueError, match=r"tei\.rerank: no encoder has the name 'scores'"):
        Settings(encoders=ENCODERS, tei={"rerank": "scores"})


async def test_keys_and_rights_hold(tmp_path: Path) -> None:
    keys = write_keys(tmp_path / "keys.yaml", entry("a", models=["embed"]))
    tenants = TenantSettings(keys=keys)
    with LiveService(model=None, encoders=ENCODERS, tei=TEI, tenants=tenants) as live:
        async with live.client() as client:
            nobody = await client.post("/embed", json={"inputs": "x"})
            own = await client.post("/embed", json={"inputs": "x"}, headers=bearer("a"))
            other = await client.post("/predict", json={"inputs": "x"}, headers=bearer("a"))
    refusal(nobody, 401)
    assert own.status_code == 200
    assert refusal(other, 404)["code"] == "model_not_found"


def test_huggingfaces_client_embeds(tei: LiveService) -> None:
    client = InferenceClient()
    vectors = client.feature_extraction(
        "a", model=f"{tei.url}/embed", normalize=True, truncate=True, truncation_direction="right"
    )
    assert vectors.shape == (1, WIDTH)
