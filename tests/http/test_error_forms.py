"""Errors in the form of each API, whatever raised them."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from service.errors import (
    DeadlineExceeded,
    NotFound,
    PayloadTooLarge,
    QueueFull,
    ServiceError,
    TooManyRequests,
    Unauthenticated,
    UnsupportedFeature,
)
from service.http.exchange import ANTHROPIC_PATHS, error_body, error_event
from tests.answers import refusal
from tests.live_service import LiveService
from tools.keys import entry, write_keys


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveService]:
    folder: Path = tmp_path_factory.mktemp("keys")
    with LiveService(tenants={"keys": write_keys(folder / "keys.yaml", entry("a"))}) as live:
        yield live


@pytest.mark.parametrize("path", sorted(ANTHROPIC_PATHS))
def test_a_request_without_a_key_is_told_so_in_anthropics_shape(
    guarded: LiveService, path: str
) -> None:
    answer = httpx.post(f"{guarded.url}{path}?beta=true", json={})
    assert refusal(answer, 401)["type"] == "authentication_error"
    assert answer.json()["type"] == "error"
    assert answer.headers["request-id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize("path", ["/v1/messages/", "/v1/chat/completions", "/V1/messages"])
def test_other_paths_keep_the_one_shape(guarded: LiveService, path: str) -> None:
    answer = httpx.post(guarded.url + path, json={})
    assert answer.status_code == 401
    assert answer.json().keys() == {"error"}
    assert "request-id" not in answer.headers


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (UnsupportedFeature("a"), "invalid_request_error"),
        (PayloadTooLarge("a"), "request_too_large"),
        (Unauthenticated("a"), "authentication_error"),
        (NotFound("a"), "not_found_error"),
        (TooManyRequests("a"), "rate_limit_error"),
        (QueueFull("a"), "overloaded_error"),
        (DeadlineExceeded("a"), "timeout_error"),
        (ServiceError(), "api_error"),
    ],
)
def test_each_error_has_anthropics_type(error: ServiceError, kind: str) -> None:
    shown = error_body(error, "/v1/messages", "id-1")
    assert (shown["type"], shown["request_id"], shown["error"]["type"]) == ("error", "id-1", kind)
    assert shown["error"]["message"] == error.message
    assert error_event(error, "/v1/messages", "id-1", 3) == ("error", shown)


def test_an_error_of_a_response_has_the_next_number_and_the_one_shape() -> None:
    error = DeadlineExceeded("too late")
    name, value = error_event(error, "/v1/responses", "id-1", 3)
    assert (name, value["type"], value["sequence_number"]) == ("error", "error", 3)
    assert (value["code"], value["message"], value["param"]) == (error.code, "too late", None)
    assert value["error"] == error.body("id-1")["error"]


@pytest.mark.parametrize("path", ["/v1/generate", "/v1/chat/completions", "/v1/messages/"])
def test_other_streams_end_with_the_one_shape_and_no_name(path: str) -> None:
    error = DeadlineExceeded("too late")
    assert error_event(error, path, "id-1", 3) == (None, error.body("id-1"))
