"""Errors in the service's own form, on all paths but those that have another."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from service.common.error_forms import error_form
from service.errors import DeadlineExceeded
from tests.live_service import LiveService
from tools.keys import entry, write_keys


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveService]:
    folder: Path = tmp_path_factory.mktemp("keys")
    with LiveService(tenants={"keys": write_keys(folder / "keys.yaml", entry("a"))}) as live:
        yield live


@pytest.mark.parametrize("path", ["/v1/messages/", "/v1/chat/completions", "/V1/messages"])
def test_other_paths_keep_the_one_shape(guarded: LiveService, path: str) -> None:
    answer = httpx.post(guarded.url + path, json={})
    assert answer.status_code == 401
    assert answer.json().keys() == {"error"}
    assert "request-id" not in answer.headers


@pytest.mark.parametrize("path", ["/v1/generate", "/v1/chat/completions", "/v1/messages/"])
def test_other_streams_end_with_the_one_shape_and_no_name(path: str) -> None:
    error = DeadlineExceeded("too late")
    assert error_form(path).event(error, "id-1", 3) == (None, error.body("id-1"))
