"""Routes of encoders over fake ones: shapes, limits, rights, fairness and states."""

import asyncio
import base64
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import numpy as np
import pytest

from loadtests.processes import eventually
from service.openai.answers import Model
from service.routes.documentation import ENCODER_EXAMPLES
from service.routes.models import encoder_card
from service.runtime.status import Phase
from service.settings.limits import LimitSettings
from service.settings.tree import TenantSettings, WatchdogSettings
from tests.answers import error_of, refusal
from tests.fake_encoder import LABELS, MAX_MODEL_LEN, VERDICTS, WIDTH
from tests.live_service import LiveService
from tools.keys import bearer, entry, write_keys

ENCODERS: list[dict[str, Any]] = [
    {"name": name, "path": "unused"}
    for name in ("embed", "embed-short", "score", "classify", "classify-multi", "classify-nli")
]
SEARCH = {
    **{"name": "embed-search", "path": "unused", "truncate": True},
    "prompts": {"query": "query: ", "document": "passage: "},
}
LONG = "x" * (MAX_MODEL_LEN + 1)


@pytest.fixture(scope="module")
def encoders() -> Iterator[LiveService]:
    with LiveService(encoders=[*ENCODERS, SEARCH]) as live:
        yield live


@asynccontextmanager
async def posting(live: LiveService, path: str, body: Any) -> AsyncGenerator[httpx.Response, None]:
    async with live.client() as client:
        yield await client.post(path, json=body)


async def embedded(live: LiveService, **body: Any) -> dict[str, Any]:
    async with posting(live, "/v1/embeddings", {"model": "embed"} | body) as answer:
        assert answer.status_code == 200, answer.text
        result: dict[str, Any] = answer.json()
        return result


async def refused(live: LiveService, path: str, body: dict[str, Any]) -> dict[str, Any]:
    async with posting(live, path, body) as answer:
        return refusal(answer, 400)


async def test_every_example_of_the_description_is_answered(encoders: LiveService) -> None:
    async with encoders.client() as client:
        paths = (await client.get("/openapi.json")).json()["paths"]
        for path, examples in ENCODER_EXAMPLES.items():
            content = paths[path]["post"]["requestBody"]["content"]["application/json"]
            assert content["examples"].keys() == examples.keys()
            for example in content["examples"].values():
                answer = await client.post(path, json=example["value"])
                assert answer.status_code == 200, answer.text


def test_the_card_of_an_encoder_is_as_described(encoders: LiveService) -> None:
    described = Model.model_json_schema()
    cards = [encoder_card(each.info) for each in encoders.encoders.values()]
    assert {card["task"] for card in cards} == {"embed", "score", "classify"}
    for card in cards:
        jsonschema.validate(card, described)
        assert card.keys() <= described["properties"].keys()


async def test_embeddings_have_openais_shape(encoders: LiveService) -> None:
    answer = await embedded(encoders, input=["a", "bc"])
    assert answer["object"] == "list"
    assert answer["model"] == "embed"
    assert answer["usage"] == {"prompt_tokens": 7, "total_tokens": 7}
    assert [each["index"] for each in answer["data"]] == [0, 1]
    for each in answer["data"]:
        assert each["object"] == "embedding"
        assert len(each["embedding"]) == WIDTH
        assert np.linalg.norm(each["embedding"]) == pytest.approx(1, abs=1e-6)


async def test_base64_holds_the_same_floats(encoders: LiveService) -> None:
    floats = (await embedded(encoders, input="a"))["data"][0]["embedding"]
    packed = (await embedded(encoders, input="a", encoding_format="base64"))["data"][0]
    assert np.frombuffer(base64.b64decode(packed["embedding"]), "<f4").tolist() == floats


async def test_tokens_are_read_as_they_are(encoders: LiveService) -> None:
    text = await embedded(encoders, input="a")
    one = await embedded(encoders, input=[256, 97, 257])
    many = await embedded(encoders, input=[[256, 97, 257], [97]])
    assert one["data"] == text["data"]
    assert many["data"][0] == text["data"][0]
    assert many["usage"]["prompt_tokens"] == 4


async def test_dimensions_are_for_matryoshka_models(encoders: LiveService) -> None:
    short = await embedded(encoders, model="embed-short", input="a", dimensions=4)
    assert len(short["data"][0]["embedding"]) == 4
    body = {"model": "embed", "input": "a", "dimensions": 4}
    error = await refused(encoders, "/v1/embeddings", body)
    assert (error["code"], error["param"]) == ("unsupported", "dimensions")
    error = await refused(
        encoders, "/v1/embeddings", body | {"model": "embed-short", "dimensions": 3}
    )
    assert error["message"] == "dimensions: must be one of 2, 4, got 3"


async def test_the_encoders_own_dimensions_change_nothing(encoders: LiveService) -> None:
    for model in ("embed", "embed-short"):
        plain = await embedded(encoders, model=model, input="a")
        assert await embedded(encoders, model=model, input="a", dimensions=WIDTH) == plain


@pytest.mark.parametrize(
    ("given", "param", "says"),
    [
        ([], "input", "input: 1..2048 texts, got 0"),
        (["a", ""], "input", "input[1]: 1..262144 bytes, got 0"),
        ([[97], []], "input", "input[1]: no tokens"),
        ([97, 258], "input", "input: token ids are 0..257"),
        ([[97], [-1]], "input", "input[1]: token ids are 0..257"),
        (["a", LONG], "input", "input[1]: 67 tokens"),
        (["a"] * 2049, "input", "input: 1..2048 texts, got 2049"),
        (3, "input", "input: must be a valid string or a list, got 3"),
        (["a", 3], "input[1]", "input[1]: must be a valid string, got 3"),
        ([[97], [97, "a"]], "input[1][1]", "input[1][1]: must be a valid integer, got 'a'"),
    ],
)
async def test_inputs_that_cannot_be_read_are_named(
    encoders: LiveService, given: Any, param: str, says: str
) -> None:
    error = await refused(encoders, "/v1/embeddings", {"model": "embed", "input": given})
    assert error["param"] == param
    assert error["message"] == says


async def test_a_longer_text_is_cut_where_that_is_asked_for_and_counted(
    encoders: LiveService,
) -> None:
    before = encoders.value("inference_truncated_inputs_total", model="embed")
    answer = await embedded(encoders, input=["a", LONG], truncate=True)
    assert answer["usage"]["prompt_tokens"] == 3 + MAX_MODEL_LEN
    assert encoders.value("inference_truncated_inputs_total", model="embed") == before + 1


@pytest.mark.parametrize(("most", "tokens"), [(5, 5), (-1, MAX_MODEL_LEN), (MAX_MODEL_LEN, None)])
async def test_texts_are_cut_to_the_tokens_that_a_request_names(
    encoders: LiveService, most: int, tokens: int | None
) -> None:
    """As vLLM's own servers and their clients spell it."""
    body = {"input": LONG, "truncate_prompt_tokens": most}
    answer = await embedded(encoders, **body)
    assert answer["usage"]["prompt_tokens"] == (tokens or most)
    pair = {"model": "score", "query": "a", "documents": [LONG], "truncate_prompt_tokens": most}
    async with posting(encoders, "/v1/rerank", pair) as ranked:
        assert ranked.json()["usage"]["prompt_tokens"] == (tokens or most)


async def test_no_more_tokens_are_named_than_the_encoder_reads(encoders: LiveService) -> None:
    body = {"model": "embed", "input": "a", "truncate_prompt_tokens": MAX_MODEL_LEN + 1}
    error = await refused(encoders, "/v1/embeddings", body)
    assert error["param"] == "truncate_prompt_tokens"
    assert f"at most the encoder's context of {MAX_MODEL_LEN}" in error["message"]


async def test_an_encoders_setting_decides_where_a_request_does_not(encoders: LiveService) -> None:
    answer = await embedded(encoders, model="embed-search", input=LONG)
    assert answer["usage"]["prompt_tokens"] == MAX_MODEL_LEN
    body = {"model": "embed-search", "input": LONG, "truncate": False}
    assert (await refused(encoders, "/v1/embeddings", body))["code"] == "context_length_exceeded"


@pytest.mark.parametrize("kind", ["query", "search_query", "retrieval.query"])
async def test_an_inputs_type_puts_the_encoders_prompt_before_it(
    encoders: LiveService, kind: str
) -> None:
    written = await embedded(encoders, model="embed-search", input=["query: a", "query: b"])
    asked = await embedded(encoders, model="embed-search", input=["a", "b"], input_type=kind)
    assert asked == written
    passage = await embedded(encoders, model="embed-search", input="a", input_type="passage")
    assert passage["data"] != asked["data"][:1]


async def test_an_encoder_without_prompts_reads_every_type_alike(encoders: LiveService) -> None:
    typed = await embedded(encoders, input=[256, 97, 257], input_type="search_document")
    assert typed == await embedded(encoders, input="a")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"input": "a", "input_type": "image"}, "must be one of query, document, got 'image'"),
        ({"input": [97], "input_type": "query"}, "only beside texts, not beside token ids"),
    ],
)
async def test_a_type_that_has_no_prompt_is_refused(
    encoders: LiveService, given: dict[str, Any], says: str
) -> None:
    error = await refused(encoders, "/v1/embeddings", {"model": "embed-search"} | given)
    assert (error["param"], error["message"]) == ("input_type", f"input_type: {says}")


async def test_the_numbers_of_an_answer_are_bounded() -> None:
    limits = LimitSettings(embedding_values=2 * WIDTH)
    with LiveService(encoders=ENCODERS, limits=limits) as live:
        await embedded(live, input=["a", "b"])
        error = await refused(live, "/v1/embeddings", {"model": "embed", "input": ["a"] * 3})
        assert "at most 16 numbers" in error["message"]
        short = {"model": "embed-short", "input": ["a"] * 3, "dimensions": 4}
        async with posting(live, "/v1/embeddings", short) as answer:
            assert answer.status_code == 200


@pytest.mark.parametrize("model", ["score", "embed"])
async def test_rerank_orders_documents_as_score_scores_them(
    encoders: LiveService, model: str
) -> None:
    documents = ["one", "two", "three", "four"]
    scored = {"model": model, "text_1": "query", "text_2": documents}
    async with posting(encoders, "/v1/score", scored) as answer:
        data = answer.json()["data"]
    scores = [each["score"] for each in data]
    assert [each["index"] for each in data] == [0, 1, 2, 3]
    assert len(set(scores)) == 4
    ranked = {"model": model, "query": "query", "documents": documents, "top_n": 3}
    for path in ("/v1/rerank", "/v2/rerank"):
        async with posting(encoders, path, ranked) as answer:
            body = answer.json()
        order = sorted(range(4), key=lambda index: -scores[index])[:3]
        assert [each["index"] for each in body["results"]] == order
        assert [each["relevance_score"] for each in body["results"]] == [scores[i] for i in order]
        assert "document" not in body["results"][0]
        assert body["meta"] == {"api_version": {"version": "2"}}
        assert body["usage"]["total_tokens"] > 0


async def test_documents_come_as_objects_and_go_back_where_asked_for(
    encoders: LiveService,
) -> None:
    body = {"query": "q", "documents": [{"text": "one"}, "two"], "return_documents": True}
    async with posting(encoders, "/v1/rerank", {"model": "score"} | body) as answer:
        results = answer.json()["results"]
    assert {each["document"]["text"] for each in results} == {"one", "two"}


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ({"txt": "a"}, "documents[1].txt: unknown field; did you mean 'text'?"),
        ({}, "documents[1].text: required"),
        (3, "documents[1]: must be a valid string or an object with keys"),
    ],
)
async def test_a_document_that_cannot_be_read_is_named(
    encoders: LiveService, document: Any, says: str
) -> None:
    body = {"model": "score", "query": "q", "documents": ["a", document]}
    error = await refused(encoders, "/v1/rerank", body)
    assert error["message"].startswith(says)
    assert error["param"] == says.partition(":")[0]


async def test_equal_texts_are_like_each_other(encoders: LiveService) -> None:
    body = {"model": "embed", "queries": ["a", "b"], "documents": ["a", "c"]}
    async with posting(encoders, "/v1/score", body) as answer:
        first, second = (each["score"] for each in answer.json()["data"])
        # Three different texts of three tokens.
        assert answer.json()["usage"]["prompt_tokens"] == 9
    assert first == pytest.approx(1)
    assert second < 0.99


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"text_1": "a"}, "give text_1 and text_2, or queries and documents"),
        ({"text_1": "a", "documents": "b"}, "give text_1 and text_2, or queries and documents"),
        ({"text_1": ["a", "b"], "text_2": ["a"]}, "text_1: one text, or as many as text_2"),
        ({"text_1": "a", "text_2": ["b", ""]}, "text_2[1]: 1.."),
        ({"queries": "a", "documents": []}, "documents: 1..1000 texts, got 0"),
        ({"text_1": "a", "text_2": ["b", LONG]}, "text_2[1]: "),
        ({"model": "embed", "queries": LONG, "documents": ["a", "b"]}, "queries: 67"),
        ({"model": "embed", "queries": "a", "documents": ["a", LONG]}, "documents[1]: "),
    ],
)
async def test_pairs_that_cannot_be_made_are_named(
    encoders: LiveService, body: dict[str, Any], says: str
) -> None:
    error = await refused(encoders, "/v1/score", {"model": "score"} | body)
    assert says in error["message"]


async def test_a_head_answers_as_every_classifier(encoders: LiveService) -> None:
    body = {"model": "classify", "input": ["goal", "vote"], "top_k": 2}
    async with posting(encoders, "/v1/classify", body) as answer:
        assert answer.status_code == 200, answer.text
        data = answer.json()["data"]
        assert answer.json()["usage"]["prompt_tokens"] == 12
    for each in data:
        assert sum(each["probs"]) == pytest.approx(1)
        assert each["num_classes"] == len(LABELS)
        assert each["label"] == each["scores"][0]["label"] in LABELS
        assert len(each["scores"]) == 2
        assert not each["abstained"]
    assert encoders.value("inference_classifications_total", model="classify") == 2


async def test_a_head_abstains_below_a_threshold_and_says_which_labels_apply(
    encoders: LiveService,
) -> None:
    body = {"model": "classify", "input": "goal", "threshold": 1.0}
    async with posting(encoders, "/v1/classify", body) as answer:
        (one,) = answer.json()["data"]
    assert one["abstained"]
    assert one["label"] is None
    several = {"model": "classify-multi", "input": "goal", "multi_label": True}
    async with posting(encoders, "/v1/classify", several) as answer:
        (many,) = answer.json()["data"]
    applying = {name for name, prob in zip(LABELS, many["probs"], strict=True) if prob >= 0.5}
    assert set(many["label_set"]) == applying


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"candidate_labels": ["a", "b"]}, "candidate_labels"),
        ({"instruction": "Which?"}, "instruction"),
        ({"calibrate": True}, "calibrate"),
        ({"multi_label": True}, "multi_label"),
    ],
)
async def test_a_head_brings_its_own_labels(
    encoders: LiveService, fields: dict[str, Any], param: str
) -> None:
    body = {"model": "classify", "input": "goal"} | fields
    assert (await refused(encoders, "/v1/classify", body))["param"] == param


async def test_an_encoder_of_inference_takes_labels_of_the_request(encoders: LiveService) -> None:
    body: dict[str, Any] = {
        "model": "classify-nli", "input": ["goal", ""], "candidate_labels": ["a", "b", "c", "d"],
    }  # fmt: skip
    async with posting(encoders, "/v1/classify", body) as answer:
        assert answer.status_code == 200, answer.text
        one, failed = answer.json()["data"]
    assert one["num_classes"] == 4
    assert sum(one["probs"]) == pytest.approx(1)
    assert one["label_set"] is None
    assert "error" in failed
    several = body | {"input": "goal", "multi_label": True, "candidate_labels": ["a"]}
    async with posting(encoders, "/v1/classify", several) as answer:
        (many,) = answer.json()["data"]
    assert many["label_set"] == (["a"] if many["probs"][0] >= 0.5 else [])
    async with posting(encoders, "/v1/classify", body | {"threshold": 1.0}) as answer:
        assert answer.json()["data"][0]["label"] is None
    async with posting(encoders, "/v1/classify", {"model": "classify-nli", "input": "a"}) as answer:
        assert answer.json()["data"][0]["label"] in VERDICTS


@pytest.mark.parametrize(
    ("fields", "param", "message"),
    [
        ({"hypothesis_template": "none"}, "hypothesis_template", "exactly once, got it 0 times"),
        ({"hypothesis_template": "{} {}"}, "hypothesis_template", "exactly once, got it 2 times"),
        ({"hypothesis_template": ""}, "hypothesis_template", "exactly once, got it 0 times"),
        ({"instruction": "Which?"}, "instruction", "set hypothesis_template"),
        ({"calibrate": True}, "calibrate", "not for encoders"),
        ({"candidate_labels": ["a"]}, "candidate_labels", "2..256 labels, got 1"),
        (
            {"candidate_labels": None, "hypothesis_template": "{}"},
            *("hypothesis_template", "brings its own"),
        ),
        (
            {"model": "fake", "hypothesis_template": "{}"},
            *("hypothesis_template", "only for encoders that were trained for inference"),
        ),
        (
            {"model": "classify", "hypothesis_template": "{}", "candidate_labels": None},
            *("hypothesis_template", "brings its own"),
        ),
    ],
)
async def test_hypotheses_that_cannot_be_made_are_refused(
    encoders: LiveService, fields: dict[str, Any], param: str, message: str
) -> None:
    body = {"model": "classify-nli", "input": "goal", "candidate_labels": ["a", "b"]} | fields
    error = await refused(encoders, "/v1/classify", body)
    assert error["param"] == param
    assert message in error["message"]


async def test_a_long_input_fails_alone_or_is_cut(encoders: LiveService) -> None:
    body = {"model": "classify", "input": ["goal", LONG]}
    async with posting(encoders, "/v1/classify", body) as answer:
        _, failed = answer.json()["data"]
    assert failed["error"]["code"] == "context_length_exceeded"
    async with posting(encoders, "/v1/classify", body | {"truncate": True}) as answer:
        assert all("label" in each for each in answer.json()["data"])
    labels = {"model": "fake", "input": "a", "candidate_labels": ["a", "b"], "truncate": True}
    assert (await refused(encoders, "/v1/classify", labels))["param"] == "truncate"


@pytest.mark.parametrize(
    ("path", "body", "names"),
    [
        ("/v1/embeddings", {"model": "score", "input": "a"}, "/v1/rerank"),
        ("/v1/embeddings", {"model": "fake", "input": "a"}, "language model"),
        ("/v1/rerank", {"model": "classify", "query": "a", "documents": ["b"]}, "/v1/classify"),
        ("/v1/classify", {"model": "embed", "input": "a"}, "/v1/embeddings"),
        ("/v1/generate", {"model": "embed", "prompt": "a"}, "/v1/embeddings"),
        ("/v1/detokenize", {"model": "embed", "tokens": [1]}, "/v1/embeddings"),
    ],
)
async def test_another_models_task_is_refused_with_the_route_to_call(
    encoders: LiveService, path: str, body: dict[str, Any], names: str
) -> None:
    error = await refused(encoders, path, body)
    assert (error["code"], error["param"]) == ("unsupported", "model")
    assert names in error["message"]


async def test_an_encoder_that_could_not_start_is_quarantined() -> None:
    broken = {"name": "broken", "path": "unused", "required": False}
    with LiveService(encoders=[broken, ENCODERS[0]]) as live:
        await embedded(live, input="a")
        async with posting(live, "/v1/embeddings", {"model": "broken", "input": "a"}) as answer:
            assert refusal(answer, 503)["code"] == "encoder_quarantined"


async def test_a_stalled_encoder_ends_its_own_requests_and_readiness() -> None:
    hasty = WatchdogSettings(stall_s=1.5, probe_s=0.1)  # more than a late tick
    with LiveService(encoders=ENCODERS[:1], watchdog=hasty) as live:
        live.encoders["embed"].frozen = True
        async with posting(live, "/v1/embeddings", {"model": "embed", "input": "a"}) as answer:
            assert refusal(answer, 503)["code"] == "engine_stalled"
        assert not live.status.ready
        async with posting(live, "/v1/generate", {"model": "fake", "prompt": "a"}) as answer:
            assert answer.status_code == 200
        assert live.value("inference_engine_stalled", engine="embed") == 1
        assert live.value("inference_engine_stalled", engine="fake") == 0
        live.encoders["embed"].frozen = False
        await eventually(lambda: live.status.ready)
        await embedded(live, input="a")


async def test_an_encoder_that_has_ended_ends_the_service() -> None:
    with LiveService(encoders=ENCODERS[:1]) as live:
        live.encoders["embed"].dead = True
        await eventually(lambda: live.status.phase is Phase.STOPPING)
        assert live.status.failure is not None


@pytest.mark.parametrize("beside", [{}, {"model": None}], ids=["beside a model", "alone"])
async def test_a_drain_ends_what_an_encoder_has_not_finished(beside: dict[str, Any]) -> None:
    drain = {"lame_duck_s": 0, "budget_s": 0.1}
    with LiveService(encoders=ENCODERS[:1], drain=drain, **beside) as live:
        live.encoders["embed"].frozen = True
        async with live.client() as client, asyncio.TaskGroup() as group:
            body = {"model": "embed", "input": "a"}
            asked = group.create_task(client.post("/v1/embeddings", json=body))
            await eventually(lambda: live.encoders["embed"].running == 1)
            assert live.status.drain is not None
            live.status.drain(False)
    assert error_of(asked.result().json())["code"] == "draining"


async def test_a_tenants_names_are_those_of_its_rights(tmp_path: Path) -> None:
    keys = rights(tmp_path, a=["embed"], b=["fake"])
    with LiveService(encoders=ENCODERS, tenants=keys) as live:
        async with live.client() as client:
            body = {"model": "embed", "input": "x"}
            own = await client.post("/v1/embeddings", json=body, headers=bearer("a"))
            other = await client.post("/v1/embeddings", json=body, headers=bearer("b"))
            missing = {"model": "nothing", "input": "x"}
            none = await client.post("/v1/embeddings", json=missing, headers=bearer("b"))
            generate = {"model": "embed", "prompt": "x"}
            hidden = await client.post("/v1/generate", json=generate, headers=bearer("b"))
            language = {"model": "fake", "input": "x"}
            foreign = await client.post("/v1/embeddings", json=language, headers=bearer("a"))
    assert own.status_code == 200
    for answer in (other, none, hidden, foreign):
        assert refusal(answer, 404)["code"] == "model_not_found"


async def test_a_flood_on_an_encoder_neither_starves_another_tenant_there_nor_the_model(
    tmp_path: Path,
) -> None:
    keys = rights(tmp_path, flood=["embed"], light=["embed", "fake"])
    with LiveService(encoders=ENCODERS[:1], tenants=keys) as live:
        encoder = live.encoders["embed"]
        encoder.frozen = True
        order: list[str] = []
        async with live.client() as client, asyncio.TaskGroup() as group:

            async def ask(tenant: str, inputs: int) -> None:
                body = {"model": "embed", "input": ["text"] * inputs}
                answer = await client.post("/v1/embeddings", json=body, headers=bearer(tenant))
                assert answer.status_code == 200, answer.text
                order.append(tenant)

            for _ in range(10):
                group.create_task(ask("flood", 10))
            await eventually(lambda: encoder.admission.queued >= 30)
            group.create_task(ask("light", 10))
            await eventually(lambda: encoder.admission.queued > 30)
            # The decoder's admission has its own turns: it is not touched.
            generate = {"model": "fake", "prompt": "a"}
            answer = await client.post("/v1/generate", json=generate, headers=bearer("light"))
            assert answer.status_code == 200
            encoder.frozen = False
        # The light tenant asked last and for a tenth: half of the turns are its own.
        assert order.index("light") <= 3
        await eventually(live.idle)


def rights(folder: Path, **models: list[str]) -> TenantSettings:
    """A keys file of tenants and the models that each may use."""
    tenants = [entry(name, models=allowed) for name, allowed in models.items()]
    return TenantSettings(keys=write_keys(folder / "keys.yaml", *tenants))
