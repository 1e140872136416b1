"""Releases that a scenario expects: read from the server, and judged."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from loadtests.analysis.result import Exit, conclude
from loadtests.load.scenario import load_scenario
from loadtests.target import read_releases
from tests.loadtests.records import record, run

CANARY = load_scenario("canary")


class Operations(BaseHTTPRequestHandler):
    """The releases of an admin port."""

    def do_GET(self) -> None:
        found = [{"adapter": "good", "state": "full", "share": 0.0}]
        body = json.dumps({"releases": found} if self.path == "/releases" else []).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def operations() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Operations) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_releases_are_read_from_the_port_of_the_metrics(operations: str) -> None:
    assert read_releases(f"{operations}/metrics") == {"good": "full"}
    assert read_releases("") == {}
    assert read_releases("http://127.0.0.1:9/metrics") == {}


@pytest.mark.parametrize(
    ("releases", "reasons"),
    [
        ({"good": "full", "bad": "rolled_back"}, []),
        (
            {"good": "canary", "bad": "full"},
            [
                "the release of good is canary, expected full",
                "the release of bad is full, expected rolled_back",
            ],
        ),
        (
            {"bad": "rolled_back"},
            ["the release of good is not known, expected full"],
        ),
    ],
)
def test_a_release_that_ends_otherwise_fails_the_run(
    releases: dict[str, str], reasons: list[str]
) -> None:
    records = [record(index) for index in range(20)]
    verdict = conclude(run(records, of=CANARY, releases=releases), None).verdict
    assert verdict.reasons == reasons
    assert verdict.exit_code == (Exit.FAILURES if reasons else Exit.OK)
