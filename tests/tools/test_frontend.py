"""The benchmark of the front ends: what its client counts, and its arithmetic."""

import math
import socket
import threading
from array import array
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

import pytest

from tools.frontend.cases import Ask, Case, cases
from tools.frontend.client import Load, Tally, rates, run
from tools.frontend.measure import Figures, figures, highest
from tools.frontend.profile import most
from tools.frontend.report import batched, markdown, medians, ratios

HEAD = b"HTTP/1.1 200 OK\r\n"
STREAM = [
    HEAD + b"transfer-encoding: chunked\r\n\r\n",
    b"a\r\ndata: one\n\n\r\n",
    b"9\r\nda",  # an event in two reads
    b"ta: two\n\n\r\nb\r\ndata: three\n\n\r\n",
    b"e\r\ndata: [DONE]\n\n\r\n",
    b"0\r\n\r\n",
]
WHOLE = [HEAD + b"Content-Len", b"gth: 5\r\n\r\nhe", b"llo"]


@contextmanager
def answering(pieces: list[bytes]) -> Iterator[int]:
    """A server that sends these pieces, apart from each other, for every request; its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection, suppress(ConnectionError):
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                while connection.recv(65536):
                    for piece in pieces:
                        connection.sendall(piece)
                        paused.wait(0.02)

        paused = threading.Event()
        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


def load(port: int, **options: int) -> Load:
    return Load(port, b"POST / HTTP/1.1\r\n\r\n", streams=1, requests=2, **options)  # type: ignore[arg-type]


def test_events_count_once_however_they_arrive() -> None:
    with answering(STREAM) as port:
        tally = run(load(port))

    assert tally.events == 2 * 4
    assert len(tally.first) == 2
    assert len(tally.gaps) == 2  # the end of an answer is no token


def test_whole_answers_are_read_to_their_end() -> None:
    with answering(WHOLE) as port:
        tally = run(load(port, streamed=False))

    assert (tally.events, len(tally.first)) == (0, 2)


def test_events_of_a_stretch_of_time_count_while_answers_are_under_way() -> None:
    with answering(STREAM) as port:
        (rate,) = rates([replace(load(port), requests=1_000_000)], 0.1, 0.5)

    assert rate > 1


def test_a_refusal_ends_the_measurement() -> None:
    with (
        answering([b"HTTP/1.1 503 Busy\r\n\r\n"]) as port,
        pytest.raises(RuntimeError, match="503 Busy"),
    ):
        run(load(port))


def test_refusals_are_measured_where_they_are_expected() -> None:
    refused = [b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n"]
    with answering(refused) as port:
        tally = run(load(port, streamed=False, status=503))

    assert len(tally.first) == 2


def case(**fields: object) -> Case:
    ask = Ask("/", {})
    options = {"tokens": 50, "streams": 2, "requests": 2, "rate": None} | fields
    return Case("chat", ask, ask, **options)  # type: ignore[arg-type]


def test_the_figures_of_a_round() -> None:
    tally = Tally(220, 2.0, array("d", [0.1, 0.3]), array("d", [0.02]))
    found = figures(case(), tally, cpu_seconds=0.01)

    assert found.cpu_us_per_token == pytest.approx(50)
    assert found.cpu_us_per_request == pytest.approx(2500)
    assert found.tokens_per_second == 100
    assert found.events_per_token == 1.1
    assert found.busy == 0.005
    assert found.ttft_p50_ms == pytest.approx(200)
    assert found.itl_p99_ms == pytest.approx(20)
    assert math.isnan(figures(case(), Tally(seconds=1.0), 1.0).itl_p50_ms)


def rounds(*cpu: float) -> list[Figures]:
    tally = Tally(200, 1.0, array("d", [0.1]))
    return [figures(case(), tally, cpu_seconds=each) for each in cpu]


def test_a_ratio_is_the_median_of_the_rounds_own() -> None:
    ours, theirs = rounds(0.002, 0.06, 0.004), rounds(0.001, 0.02, 0.004)

    assert medians(ours)["cpu_us_per_token"] == pytest.approx(20)
    assert ratios(ours, theirs)["cpu_us_per_token"] == pytest.approx(2)
    table = markdown([(case(), {"fast": ours, "stock": theirs, "theirs": theirs})])
    first, second = table.splitlines()[-2:]
    assert first.startswith("| chat | 2 | fast | 20.0 : 20.0 = 2.00 | ")
    assert second.startswith("| chat | 2 | stock | 20.0 : 20.0 = 1.00 | ")
    assert first.endswith("|  |  |")  # nothing was read in parts


def test_a_read_of_a_batch_is_compared_with_a_request_of_its_own() -> None:
    sides = {"ours": rounds(0.002, 0.002), "theirs": rounds(0.001, 0.001)}
    batch = {"ours": rounds(0.0003, 0.0003), "theirs": rounds(0.0005, 0.0005)}
    read = replace(case(), name="read")
    both = [(read, sides), (replace(read, name="read batch"), batch)]
    assert "takes 0.30 of the CPU time" in batched(both)
    assert batched(both[1:]) == ""


@pytest.mark.parametrize("most", [40, 60, 100])
def test_the_search_finds_the_highest_rate_with_an_event_a_token(most: float) -> None:
    def probe(rate: float) -> Figures:
        events = 200 if rate <= most else 150
        return figures(case(), Tally(events, 200 / rate, array("d", [0.1])), 1.0)

    found = highest(probe, rate=60).tokens_per_second
    assert most / 1.15 < found <= most * 1.0001


def test_every_kind_is_measured_at_its_levels() -> None:
    found = list(cases([8, 1024], rate=30, tokens=100, kinds=["chat", "read batch"]))

    assert [(each.name, each.streams, each.rate) for each in found] == [
        ("chat", 8, 30),
        ("chat", 1024, 30),
        ("chat, saturated", 64, 60),
        ("read batch", 4, 100),
    ]
    fewer = cases([8], rate=30, tokens=100, kinds=["chat"], saturated=False)
    assert [each.name for each in fewer] == ["chat"]
    assert b"\r\nContent-Length: " in found[0].ours.request("sk-x")


def test_a_profile_is_a_share_of_the_samples() -> None:
    table = most(["main (a.py:1);send (b.py:2) 3", "main (a.py:9) 1"])

    assert table.index("send") < table.index("main")
    assert "| main (a.py) | 25.0% | 100.0% |" in table
    assert "| send (b.py) | 75.0% | 75.0% |" in table
