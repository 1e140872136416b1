"""Browsers: pages of listed origins may call, others may not, and nobody by default."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from pydantic import ValidationError

from service.runtime.parts import plugin_types
from service.settings.tree import HttpSettings
from tests.answers import refusal
from tests.live_service import LiveService
from tools.keys import bearer, entry, write_keys

PAGE = "https://chat.example.com"
BODY = {"model": "fake", "prompt": "Hi", "max_tokens": 2}
ASKED = {
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization,content-type,x-stainless-lang",
}


@pytest.fixture(scope="module")
def open_to_page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveService]:
    folder = tmp_path_factory.mktemp("open")
    keys = write_keys(folder / "keys.yaml", entry("a"))
    http = HttpSettings(cors_origins=(PAGE,))
    with LiveService(tenants={"keys": keys}, http=http) as live:
        yield live


def preflight(live: LiveService, origin: str, **asked: str) -> httpx.Response:
    headers = {"origin": origin, **ASKED, **asked}
    return httpx.options(live.url + "/v1/generate", headers=headers)


def post(live: LiveService, origin: str, **headers: str) -> httpx.Response:
    return httpx.post(live.url + "/v1/generate", json=BODY, headers={"origin": origin, **headers})


def test_a_preflight_of_a_listed_page_needs_no_key(open_to_page: LiveService) -> None:
    answer = preflight(open_to_page, PAGE)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert "x-stainless-lang" in answer.headers["access-control-allow-headers"]
    assert "access-control-allow-credentials" not in answer.headers


def test_a_page_may_call_by_every_method_that_a_route_has(open_to_page: LiveService) -> None:
    of_plugins = [each for kind in plugin_types().values() for each in kind.routers]
    routes = [*open_to_page.app.routes, *(route for each in of_plugins for route in each.routes)]
    methods = {method for route in routes for method in getattr(route, "methods", None) or ()}
    methods |= {"HEAD", "DELETE"}  # files of batches are deleted
    assert methods == {"GET", "HEAD", "POST", "DELETE"}
    for method in methods:
        asked = {"access-control-request-method": method}
        assert preflight(open_to_page, PAGE, **asked).status_code == 200


def test_a_listed_page_reads_answers_refusals_and_their_headers(open_to_page: LiveService) -> None:
    for status, headers in ((200, bearer("a")), (401, {})):
        answer = post(open_to_page, PAGE, **headers)
        assert answer.status_code == status
        assert answer.headers["access-control-allow-origin"] == PAGE
        assert "retry-after" in answer.headers["access-control-expose-headers"]


def test_a_listed_page_reads_a_stream(open_to_page: LiveService) -> None:
    answer = httpx.post(
        open_to_page.url + "/v1/generate",
        json=BODY | {"stream": True},
        headers={"origin": PAGE, **bearer("a")},
    )
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert answer.text.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize("origin", ["https://evil.example", PAGE + ".evil.example", "null"])
def test_another_page_reads_nothing(open_to_page: LiveService, origin: str) -> None:
    assert preflight(open_to_page, origin).status_code == 400
    assert "access-control-allow-origin" not in post(open_to_page, origin, **bearer("a")).headers


@pytest.mark.parametrize("origin", [PAGE, "http://localhost.evil.example", "null"])
def test_by_default_no_page_of_another_machine_may_call(service: LiveService, origin: str) -> None:
    for answer in (preflight(service, origin), post(service, origin)):
        error = refusal(answer, 403)
        assert error["code"] == "cross_site"
        assert f"'{origin}'" in error["message"]
        assert "http.cors_origins" in error["message"]
        assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    "origin", ["http://localhost:3000", "https://localhost", "http://127.0.0.1:1", "http://[::1]:9"]
)
def test_by_default_pages_of_this_machine_may_call(service: LiveService, origin: str) -> None:
    asked = preflight(service, origin, **{"access-control-request-private-network": "true"})
    assert asked.status_code == 200
    assert asked.headers["access-control-allow-private-network"] == "true"
    for answer in (asked, post(service, origin, **{"sec-fetch-site": "cross-site"})):
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == origin
        assert "access-control-allow-credentials" not in answer.headers


LOCAL_PAGE = "http://localhost:3000"


def test_a_list_of_origins_replaces_pages_of_this_machine() -> None:
    for origins in ((), (PAGE,)):
        with LiveService(http=HttpSettings(cors_origins=origins)) as live:
            refusal(post(live, LOCAL_PAGE), 403)


def test_a_service_for_other_machines_tells_no_page_of_this_one() -> None:
    http = HttpSettings(host="0.0.0.0")
    with LiveService(http=http, tenants={"allow_anonymous": True}) as live:
        answer = post(live, LOCAL_PAGE)
        assert answer.status_code == 200
        assert "access-control-allow-origin" not in answer.headers


def test_a_page_of_this_machine_needs_a_key_where_others_do(tmp_path: Path) -> None:
    keys = write_keys(tmp_path / "keys.yaml", entry("a"))
    with LiveService(tenants={"keys": keys}) as live:
        for status, headers in ((200, bearer("a")), (401, {})):
            answer = post(live, LOCAL_PAGE, **headers)
            assert answer.status_code == status
            assert answer.headers["access-control-allow-origin"] == LOCAL_PAGE


@pytest.mark.parametrize(("origins", "status"), [((PAGE,), 200), (("*",), 403), ((), 403)])
def test_where_callers_need_no_key_a_page_must_be_listed_by_name(
    origins: tuple[str, ...], status: int
) -> None:
    with LiveService(http=HttpSettings(cors_origins=origins)) as live:
        answer = post(live, PAGE, **{"sec-fetch-site": "cross-site"})
        assert answer.status_code == status
        assert post(live, "https://evil.example").status_code == 403


def test_with_keys_every_page_may_call_if_the_settings_say_so(tmp_path: Path) -> None:
    keys = write_keys(tmp_path / "keys.yaml", entry("a"))
    with LiveService(tenants={"keys": keys}, http=HttpSettings(cors_origins=("*",))) as live:
        assert preflight(live, PAGE).headers["access-control-allow-origin"] == "*"
        assert post(live, PAGE, **bearer("a")).headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize("origin", ["chat.example.com", "https://a/b", "https://*.a", ""])
def test_what_is_no_origin_is_refused_at_the_start(origin: str) -> None:
    with pytest.raises(ValidationError):
        HttpSettings(cors_origins=(origin,))
