"""`/openapi.json` of the real service: its examples are answered as it says."""

from typing import Any

import httpx
import jsonschema
import pytest

from service.routes.documentation import OWN_EXAMPLES, examples
from tests.served.server import Server

MODERATIONS = "/v1/moderations"
EXAMPLES = examples()
SENT = {**EXAMPLES, MODERATIONS: OWN_EXAMPLES[MODERATIONS]}
POSTED = [(path, title) for path in SENT for title in SENT[path]]
GOT = [
    "/v1/models",
    "/v1/models/{name}",
    "/v1/adapters",
    "/version",
    "/health",
    "/ping",
]
FEEDBACK = "/v1/feedback"
ANSWERS: dict[str, dict[str, Any]] = {
    "/v1/generate": {"model": "commands", "prompt": "set a timer", "max_tokens": 4},
    "/v1/classify": {"model": "sentiment", "input": "What a terrible film!"},
    "/v1/chat/completions": {"model": "commands", "max_tokens": 4},
    "/v1/completions": {"model": "commands", "prompt": "set a timer", "max_tokens": 4},
}
"""Requests to adapters, whose answers can be rated."""
BILL = "/v1/adapters/{name}/bom"


@pytest.fixture
def document(smollm2: Server) -> dict[str, Any]:
    document: dict[str, Any] = httpx.get(f"{smollm2.url}/openapi.json").json()
    return document


def check(document: dict[str, Any], operation: dict[str, Any], answer: httpx.Response) -> None:
    """Fail unless the answer is 200 and as the operation describes it."""
    assert answer.status_code == 200, answer.text
    kind = answer.headers["content-type"].partition(";")[0]
    described = operation["responses"]["200"]["content"]
    content = {name.partition(";")[0]: each for name, each in described.items()}[kind]
    if kind == "application/json":
        jsonschema.validate(
            answer.json(), {**content["schema"], "components": document["components"]}
        )


def test_every_operation_is_tried(document: dict[str, Any]) -> None:
    posted = {path for path, operations in document["paths"].items() if "post" in operations}
    assert posted == EXAMPLES.keys() | OWN_EXAMPLES.keys()
    assert document["paths"].keys() - posted == {*GOT, BILL}


@pytest.mark.parametrize(("path", "title"), POSTED)
def test_an_example_is_answered_as_described(
    smollm2: Server, document: dict[str, Any], path: str, title: str
) -> None:
    operation = document["paths"][path]["post"]
    content = operation["requestBody"]["content"]["application/json"]
    body = content["examples"][title]["value"]
    jsonschema.validate(body, {**content["schema"], "components": document["components"]})
    check(document, operation, smollm2.post(path, body))


@pytest.mark.parametrize("title", OWN_EXAMPLES[FEEDBACK])
def test_feedback_is_answered_as_described(
    smollm2: Server, document: dict[str, Any], title: str
) -> None:
    operation = document["paths"][FEEDBACK]["post"]
    content = operation["requestBody"]["content"]["application/json"]
    body = content["examples"][title]["value"]
    jsonschema.validate(body, {**content["schema"], "components": document["components"]})
    # An id that is signed can stand in no example.
    answer = smollm2.post("/v1/classify", ANSWERS["/v1/classify"])
    rated = smollm2.post(FEEDBACK, body | {"id": answer.headers[body["id"]]})
    check(document, operation, rated)
    assert rated.json()["score"] == 1.0


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", [path for path in ANSWERS if path != "/v1/classify"])
def test_a_generated_answer_can_be_rated(smollm2: Server, path: str, stream: bool) -> None:
    messages = {"messages": [{"role": "user", "content": "set a timer"}]}
    body = ANSWERS[path] | (messages if "chat" in path else {}) | {"stream": stream}
    answer = smollm2.post(path, body)
    assert answer.status_code == 200, answer.text
    rated = smollm2.post(FEEDBACK, {"id": answer.headers["x-feedback-id"], "score": 0.5})
    assert rated.status_code == 200, rated.text
    assert (rated.json()["model"], rated.json()["score"]) == ("commands", 0.5)


@pytest.mark.parametrize("path", GOT)
def test_a_route_without_a_body_answers_as_described(
    smollm2: Server, document: dict[str, Any], path: str
) -> None:
    operation = document["paths"][path]["get"]
    names = {each["name"]: each["example"] for each in operation.get("parameters", ())}
    check(document, operation, httpx.get(smollm2.url + path.format(**names)))


def test_the_bill_of_every_adapter_is_as_described(
    smollm2: Server, document: dict[str, Any]
) -> None:
    names = [each["name"] for each in httpx.get(f"{smollm2.url}/v1/adapters").json()["data"]]
    assert names
    for name in names:
        answer = httpx.get(smollm2.url + BILL.format(name=name))
        check(document, document["paths"][BILL]["get"], answer)


@pytest.mark.parametrize("path", [*EXAMPLES, *OWN_EXAMPLES])
def test_a_refusal_is_as_described(smollm2: Server, document: dict[str, Any], path: str) -> None:
    answer = smollm2.post(path, {"model": "smollm2-135m-instruct", "no_such_field": 1})
    described = document["paths"][path]["post"]["responses"][str(answer.status_code)]
    schema = described["content"]["application/json"]["schema"]
    assert answer.status_code == 400
    jsonschema.validate(answer.json(), {**schema, "components": document["components"]})
