"""POST /v1/moderations over fake encoders: the shape, the scores, rights, long texts."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.plugins.guards.settings import GuardsSettings
from tests.answers import refusal
from tests.fake_encoder import LABELS, MAX_MODEL_LEN
from tests.live_service import LiveService
from tools.keys import bearer, entry, write_keys

TEXTS = ["a text", "another", "the third"]
GUARDS: dict[str, dict[str, Any]] = {
    "news": {"model": "classify", "labels": ["politics", "weather"], "threshold": 0.5},
    "sport": {"model": "classify-multi", "labels": ["sports"], "threshold": 0.5},
}
SECTIONS: dict[str, Any] = {
    "encoders": [{"name": name, "path": "unused"} for name in ("classify", "classify-multi")],
    "guards": {"named": GUARDS},
}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveService]:
    keys = tmp_path_factory.mktemp("keys") / "keys.json"
    write_keys(keys, entry("all"), entry("one", models=["classify"]), entry("none", models=[]))
    with LiveService(**SECTIONS, tenants={"keys": keys}) as live:
        yield live


async def asked(live: LiveService, tenant: str, **body: Any) -> httpx.Response:
    async with live.client() as client:
        return await client.post("/v1/moderations", json=body, headers=bearer(tenant))


async def test_scores_are_those_of_the_models_and_flags_follow_the_threshold(
    guarded: LiveService,
) -> None:
    answer = (await asked(guarded, "all", input=TEXTS)).json()
    assert answer["model"] == "news, sport"
    async with guarded.client() as client:
        for model, guard in (("classify", "news"), ("classify-multi", "sport")):
            body = {"model": model, "input": TEXTS}
            found = await client.post("/v1/classify", json=body, headers=bearer("all"))
            for each, result in zip(found.json()["data"], answer["results"], strict=True):
                for label in GUARDS[guard]["labels"]:
                    score = each["probs"][LABELS.index(label)]
                    assert result["category_scores"][f"{guard}/{label}"] == pytest.approx(score)
    for result in answer["results"]:
        flags = {name: score >= 0.5 for name, score in result["category_scores"].items()}
        assert result["categories"] == flags
        assert result["flagged"] == any(flags.values())
    assert {result["flagged"] for result in answer["results"]} == {True, False}


async def test_the_guards_are_those_that_the_key_may_use(guarded: LiveService) -> None:
    own = (await asked(guarded, "one", input="a")).json()
    assert own["model"] == "news"
    assert own["results"][0]["categories"].keys() == {"news/politics", "news/weather"}
    named = (await asked(guarded, "all", input="a", model="sport")).json()
    assert named["results"][0]["categories"].keys() == {"sport/sports"}
    for tenant, model in (("one", "sport"), ("none", None), ("all", "omni-moderation-latest")):
        error = refusal(await asked(guarded, tenant, input="a", model=model), 404)
        assert (error["code"], error["param"]) == ("model_not_found", "model")


async def test_parts_are_one_text(guarded: LiveService) -> None:
    parts = [{"type": "text", "text": text} for text in ("a", "b")]
    answer = (await asked(guarded, "all", input=parts)).json()
    assert answer["results"] == (await asked(guarded, "all", input="a\nb")).json()["results"]


async def test_a_long_text_is_read_in_pieces(guarded: LiveService) -> None:
    (short,) = (await asked(guarded, "one", input="x" * 40)).json()["results"]
    (long,) = (await asked(guarded, "one", input="x" * MAX_MODEL_LEN)).json()["results"]
    assert long["category_scores"] == pytest.approx(short["category_scores"])
    error = refusal(await asked(guarded, "one", input="x" * 100_000), 400)
    assert error["code"] == "context_length_exceeded"


@pytest.mark.parametrize("given", ["", " ", [], ["a", ""], [{"type": "image_url"}], 1])
async def test_what_is_no_text_is_refused(guarded: LiveService, given: Any) -> None:
    assert refusal(await asked(guarded, "all", input=given), 400)["param"].startswith("input")


async def test_reads_are_paid_and_counted_under_the_models_name(tmp_path: Path) -> None:
    keys = write_keys(tmp_path / "keys", entry("all", quotas={"tokens_per_minute": 8}))
    with LiveService(**SECTIONS, tenants={"keys": keys}) as live:
        assert (await asked(live, "all", input="abc", model="news")).status_code == 200
        read = live.value(
            "inference_tokens_total", route="/v1/moderations", model="classify", kind="prompt"
        )
        assert read == 5  # with its two special tokens
        refusal(await asked(live, "all", input="abc", model="news"), 429)


async def test_without_guards_there_is_no_route() -> None:
    with LiveService() as live:
        async with live.client() as client:
            refusal(await client.post("/v1/moderations", json={"input": "a"}), 404)
        assert live.settings.section(GuardsSettings).named == {}
