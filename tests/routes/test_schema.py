"""The native routes against their own OpenAPI schema, with generated bodies, right and wrong."""

from collections import Counter
from collections.abc import Iterator, Mapping, Set
from typing import Any

import hypothesis
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, strategies
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from service.common.error_messages import asks_nothing
from tests.live_service import LiveService

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
EXAMPLES = 36

FITTING: dict[str, dict[str, Any]] = {
    "/v1/generate": {
        **{"prompt": "Hi", "messages": None, "max_tokens": 4, "n": 2, "stop": "x"},
        **{"temperature": 0.5, "response_format": None},
    },
    "/v1/chat/completions": {
        **{"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4, "min_tokens": 0},
        **{"max_completion_tokens": None, "n": 2, "temperature": 0.5, "stop": "x"},
        **{"response_format": None, "structured_outputs": None, "logit_bias": {"7": 1}},
        **{"tools": None, "tool_choice": None, "documents": None, "chat_template_kwargs": None},
        **{"logprobs": True, "top_logprobs": 2, "prompt_logprobs": 0, "stream_options": None},
        **{"continue_final_message": False, "allowed_token_ids": None, "bad_words": ["y"]},
    },
    "/v1/completions": {
        **{"prompt": ["Hi", "you"], "max_tokens": 4, "min_tokens": 0, "n": 2, "temperature": 0.5},
        **{"stop": "x", "response_format": None, "structured_outputs": None, "suffix": None},
        **{"logit_bias": {"7": 1}, "logprobs": 2, "prompt_logprobs": 0, "stream_options": None},
        **{"allowed_token_ids": None, "bad_words": ["y"]},
    },
    "/v1/classify": {
        "input": ["Hi"],
        "candidate_labels": ["yes", "no"],
        "multi_label": False,
        "threshold": None,
        "truncate": False,
    },
    "/v1/embeddings": {"model": "embed", "input": ["Hi", "you"], "dimensions": None},
    "/v1/rerank": {"model": "score", "query": "Hi", "documents": ["a", {"text": "b"}]},
    "/v2/rerank": {"model": "embed", "query": "Hi", "documents": ["a", "b"]},
    "/v1/score": {
        "model": "score",
        "text_1": "Hi",
        "text_2": ["a", "b"],
        "queries": None,
        "documents": None,
    },
    "/v1/tokenize": {"prompt": None, "messages": [{"role": "user", "content": "Hi"}]},
    "/tokenize": {"prompt": "Hi", "messages": None},
    "/v1/detokenize": {"tokens": [72, 105]},
    "/detokenize": {"tokens": [72, 105]},
}
"""Values that a JSON schema cannot require: fields that go together, and the size of the model."""


@pytest.fixture(scope="module")
def service() -> Iterator[LiveService]:
    """A service with encoders beside the model."""
    encoders = [{"name": name, "path": "unused"} for name in ("embed", "score")]
    with LiveService(encoders=encoders) as live:
        yield live


def send_generated(
    service: LiveService, path: str, mode: GenerationMode, values: Mapping[str, Any]
) -> Counter[int]:
    """Post generated bodies, check each answer against the schema, count the statuses.

    `values` are set in half of the bodies that follow the schema.
    """
    document = service.app.openapi()
    schema, listed = schemathesis.openapi.from_dict(document), _fields(document, path)
    statuses: Counter[int] = Counter()

    @hypothesis.settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(
        case=schema[path]["POST"].as_strategy(generation_mode=mode), fits=strategies.booleans()
    )
    def send(case: schemathesis.Case[Any], fits: bool) -> None:
        if isinstance(case.body, dict):
            if isinstance(case.body.get("model"), str):
                case.body["model"] = values.get("model", "fake")
            fitting = values if fits and mode is GenerationMode.POSITIVE else {}
            _aim(case.body, fitting, listed)
        response = case.call(base_url=service.url, session=session)
        case.validate_response(response, checks=CHECKS)
        statuses[response.status_code] += 1

    with requests.Session() as session:
        session.trust_env = False
        send()
    return statuses


def _fields(document: dict[str, Any], path: str) -> Set[str]:
    body = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    if "$ref" in body:
        body = document["components"]["schemas"][body["$ref"].rpartition("/")[2]]
    return dict[str, Any](body["properties"]).keys()


def _aim(body: dict[str, Any], fitting: Mapping[str, Any], listed: Set[str]) -> None:
    """Leave time to answer, and set what fits, so that the other listed fields decide."""
    if fitting:
        for name in body.keys() - listed:
            del body[name]
    for name in body.keys() - listed:
        if asks_nothing(name, body[name]):  # it never matters, which no schema says
            body[name] = 1
    if type(body.get("timeout_ms")) in (int, float) and body["timeout_ms"] > 0:
        body["timeout_ms"] = 60_000
    body.update(fitting)


def check_route(service: LiveService, path: str, values: Mapping[str, Any]) -> None:
    """Bodies that follow the schema are answered or refused as it says, others refused at once."""
    statuses = send_generated(service, path, GenerationMode.POSITIVE, values)
    assert statuses.keys() == {200, 400}
    assert statuses[200] >= EXAMPLES // 12
    before = service.engine.starts
    statuses = send_generated(service, path, GenerationMode.NEGATIVE, values)
    assert statuses.keys() == {400}
    assert service.engine.starts == before


@pytest.mark.parametrize("path", FITTING)
def test_a_route_does_what_its_schema_says(service: LiveService, path: str) -> None:
    check_route(service, path, FITTING[path])


def test_each_model_of_the_document_has_a_name_of_its_own(service: LiveService) -> None:
    """FastAPI adds a part to names that two models share, and some generators refuse both."""
    models = service.app.openapi()["components"]["schemas"]
    titles = Counter(model["title"] for model in models.values() if "title" in model)
    assert titles.most_common(1)[0][1] == 1
    assert not [name for name in models if "-" in name or "__" in name]
