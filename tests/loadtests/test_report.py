"""The page, JUnit, Markdown and the schema of a result."""

import csv
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import jsonschema
import pytest

from loadtests.analysis.counters import Counters
from loadtests.analysis.duel import Duel, judge
from loadtests.analysis.live import COLUMNS, live_rows
from loadtests.analysis.objectives import Objectives, load_objectives
from loadtests.analysis.result import Exit, Result, conclude
from loadtests.outputs import read_search, write_outputs, write_search
from loadtests.protocol.record import Record
from loadtests.report.console import show_duel
from loadtests.report.csv_text import csv_text
from loadtests.report.duel_page import duel_page
from loadtests.report.figures import _pareto
from loadtests.report.junit import junit
from loadtests.report.markdown import BEGIN, END, merged, sections
from loadtests.report.page import page
from loadtests.report.svg import log_ticks, ticks
from loadtests.search import Knee
from tests.loadtests.records import record, run
from tests.loadtests.scenarios import scenario

SLO: Objectives = load_objectives("interactive")
SCHEMA = Path(__file__).parents[2] / "loadtests" / "result.schema.json"


def mixed(count: int = 60) -> list[Record]:
    """Two stages, two tenants, two models, a classification, a failure."""
    rows = [
        record(
            i,
            stage="x1" if i < count // 2 else "x2",
            tenant="ab"[i % 2],
            model=f"m{i % 3}",
            due=i / 6,
            sent=i / 6,
        )
        for i in range(count)
    ]
    late = {"stage": "x2", "due": 9.0, "sent": 9.0}
    rows.append(record(count, tenant="a", task="classify", chunks=[], items=3, **late))
    rows.append(record(count + 1, tenant="b", outcome="stream_error", error="<b>&", **late))
    return rows


def result(records: list[Record] | None = None, **fields: object) -> Result:
    load = {
        "kind": "open",
        "arrivals": {"process": "poisson", "rate": 6},
        "steps": [1, 2],
        "step_s": 5,
    }
    of = scenario(load=load, tenants=[{"name": "a"}, {"name": "b"}])
    rows = mixed() if records is None else records
    offered = {"x1": 30, "x2": len(rows) - 30}
    return conclude(run(rows, of=of, offered=offered, **fields), SLO)


class Page(HTMLParser):
    """Collects what a test asks of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.captions: list[str] = []
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.points = 0
        self._caption = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._caption = tag in {"figcaption", "h2"}
        for name, value in attrs:
            if name in {"src", "href", "srcset"}:
                self.addresses.append(value or "")
            if name == "points":
                self.points += len((value or "").split())

    def handle_data(self, data: str) -> None:
        if self._caption:
            self.captions.append(data)
            self._caption = False


def test_the_page_holds_every_figure_and_asks_nothing_of_a_network() -> None:
    html = page(result())
    seen = Page(html)
    assert seen.addresses == []
    assert "script" not in seen.tags
    assert "http-equiv" not in html
    for caption in (
        "Time to first token: share of samples below",
        "Time between tokens: share of samples below",
        "Latency against offered rate",
        "Goodput against offered rate",
        "Requests over time",
        "In flight over time",
        "Validity",
        "Stages (ms)",
        "Adapters (ms)",
        "Tenants (ms)",
        "Fairness",
    ):
        assert caption in seen.captions
    assert seen.points > 200


def test_what_a_server_said_is_text_on_the_page() -> None:
    html = page(result())
    assert "stream_error: &lt;b&gt;&amp;" in html
    assert "<b>&" not in html


def test_an_invalid_run_says_so_and_which_check() -> None:
    html = page(result(server=Counters("inference", 3, 3)))
    assert '<span class="verdict bad">invalid</span>' in html
    assert "server_requests: the server counted 3, we 62" in html


def test_a_result_without_an_answer_still_has_a_page() -> None:
    gone = {"outcome": "unreachable", "chunks": [], "tenant": "a"}
    nothing = result([record(i, **gone) for i in range(30)])
    assert nothing.verdict.exit_code == Exit.FAILURES
    assert "Validity" in Page(page(nothing)).captions


def test_junit_counts_what_it_holds() -> None:
    suite = ElementTree.fromstring(junit(result(server=Counters("inference", 3, 3))))
    cases = suite.findall("testcase")
    assert suite.get("tests") == str(len(cases))
    assert suite.get("failures") == str(len(suite.findall("testcase/failure"))) == "2"
    assert {case.get("name") for case in cases} >= {"requests", "slo interactive", "dropped"}


def test_a_result_fits_the_schema() -> None:
    schema = json.loads(SCHEMA.read_text())
    jsonschema.validate(json.loads(result().model_dump_json()), schema)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 10, [0, 2, 4, 6, 8, 10]),
        (0, 0, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (3, 47, [0, 10, 20, 30, 40, 50]),
    ],
)
def test_axes_have_round_numbers(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (103, 107, [100, 200]),
        (10, 100, [10, 20, 50, 100]),
        (3, 45, [2, 5, 10, 20, 50]),
        (5, 5, [5, 10]),
        (0.001, 90, [0.001, 0.01, 0.1, 1, 10, 100]),
    ],
)
def test_logarithmic_axes_too(low: float, high: float, expected: list[float]) -> None:
    assert log_ticks(low, high) == pytest.approx(expected)


def duel() -> Duel:
    slower = [
        Record.from_row(r.row() | {"chunks": [c * 1.2 for c in r.chunks], "e2e": 0.18})
        for r in mixed()
    ]
    first, second = (result(), mixed()), (result(slower), slower)
    return judge([first], [second], SLO, ("ours", "theirs"), "a command")


def test_a_comparison_has_a_page_and_an_exit_code() -> None:
    found = duel()
    assert found.paired
    assert found.failures
    seen = Page(duel_page(found))
    assert seen.addresses == []
    assert "Deltas" in seen.captions
    assert "Goodput against offered rate" in seen.captions
    assert found.exit_code(None) == Exit.FAILURES
    clean = found.model_copy(update={"failures": []})
    assert clean.exit_code(0.05) == Exit.SLO_MISSED
    assert clean.exit_code(0.5) == Exit.OK
    assert clean.exit_code(None) == Exit.OK
    assert clean.model_copy(update={"doubts": ["x"]}).exit_code(None) == Exit.INVALID


def test_a_comparison_shows_the_stages_of_both_sides_in_their_order(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    of = scenario(load={"kind": "closed", "users": [2, 10], "step_s": 5})
    rows = [record(i, stage="2 users" if i < 10 else "10 users") for i in range(20)]
    one = conclude(run(rows, of=of, offered={}), None)
    show_duel(judge([(one, rows)], [(one, rows)], None, ("ours", "theirs"), "a command"))
    told = re.findall(r"(?m)^ *(ours|theirs|2 users|10 users)\b", capsys.readouterr().out)
    assert told == ["ours", "2 users", "10 users", "theirs", "2 users", "10 users"]


def test_markdown_names_command_machine_and_date() -> None:
    text = sections([result(command="make load-smoke", started_at="2030-01-02"), duel()])
    assert "    make load-smoke" in text
    assert "2030-01-02" in text
    assert "cores" in text
    assert "paired, latencies on those that both answered" in text
    assert "| TTFT from due | mean |" in text
    assert "Jain's index" in text
    for row in ("| ours, x1 |", "| theirs, x2 |", "| ours, a |", "| x1 |", "| m2 |"):
        assert row in text


def test_markdown_of_a_search_names_its_probes_and_why_it_stopped(tmp_path: Path) -> None:
    knee = Knee(passed=4.0, probes=[(4.0, True), (2.0, True)], stopped="at 8: a worker was busy")
    write_search(tmp_path, knee, [result(), result()])
    text = sections([read_search(tmp_path)])
    assert "4 requests/s (no rate failed). at 8: a worker was busy" in text
    assert text.index("| 2 | yes |") < text.index("| 4 | yes |")


def test_overload_is_told_by_stage() -> None:
    rows = [record(i, stage="x1", due=i / 6, sent=i / 6, tenant="a") for i in range(30)]
    refused = {"outcome": "refused", "chunks": [], "stage": "x2", "e2e": 0.002, "tenant": "b"}
    rows += [record(30 + i, **refused, due=5 + i / 60) for i in range(40)]
    for each in rows[30:60]:
        each.retry_after = "1"
    rows += [record(70 + i, stage="x2", due=6.0, sent=6.0, tenant="b") for i in range(15)]
    stages = result(rows).stages
    assert [stage.goodput.of_peak for stage in stages if stage.goodput] == [1.0, 0.5]
    assert stages[0].refusals is None
    assert stages[1].refusals is not None
    assert stages[1].refusals.with_retry_after == 0.75
    assert stages[1].refusals.latency.p90 == pytest.approx(0.002)
    text = sections([result(rows)])
    assert "| 50.0% | too few | 75.0% | 40 refused |" in text
    assert "refused in, p99" in page(result(rows))


def test_a_document_keeps_what_is_written_by_hand() -> None:
    once = merged("# Ours\n\nBy hand.\n", "figures")
    assert once.startswith("# Ours\n\nBy hand.\n")
    after = "\nAfter.\n"
    assert merged(once + after, "others") == once.replace("figures", "others") + after
    assert merged(None, "figures").startswith("# Benchmarks")


@pytest.mark.parametrize(
    "document", [BEGIN, END, f"{END}{BEGIN}", f"{BEGIN}{END}{END}", f"{BEGIN}{BEGIN}{END}"]
)
def test_a_document_with_broken_markers_is_refused(document: str) -> None:
    with pytest.raises(ValueError, match="once each"):
        merged(document, "figures")


def test_a_search_leaves_its_probes(tmp_path: Path) -> None:
    knee = Knee(passed=2.0, failed=4.0, probes=[(2.0, True), (4.0, False)])
    write_search(tmp_path, knee, [result(), result()])
    tree = json.loads((tmp_path / "search.json").read_text())
    assert [probe["rate"] for probe in tree["probes"]] == [2.0, 4.0]
    write_search(tmp_path / "none", Knee(stopped="why"), [])
    assert json.loads((tmp_path / "none" / "search.json").read_text())["stopped"] == "why"
    assert "Latency against offered rate" in Page((tmp_path / "report.html").read_text()).captions


def test_a_run_without_a_folder_writes_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    write_outputs(run([record(i) for i in range(10)]), SLO, None)
    assert "OK" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_live_rows_have_every_column() -> None:
    rows = live_rows(mixed(), SLO)
    assert all(row.keys() == COLUMNS.keys() for row in rows)
    assert [row["group"] for row in rows] == [
        "all",
        "stage x1",
        "stage x2",
        "tenant a",
        "tenant b",
        "model base",
        "model m0",
        "model m1",
        "model m2",
    ]
    assert rows[0]["ttft"] == 100.0
    assert live_rows([], None)[0]["goodput"] == ""


def test_the_front_holds_the_rates_that_no_other_betters() -> None:
    """The middle one of three rates answers most, and the last one answers later and less."""
    rows: list[Record] = []
    for stage, (rate, seconds) in {"x1": (20, 0.1), "x2": (60, 0.2), "x3": (40, 0.4)}.items():
        first = int(stage[1]) * 5 - 5
        chunks = {"chunks": [seconds / 2], "e2e": seconds, "stage": stage}
        rows += [
            record(len(rows) + i, due=first + i / rate, sent=first + i / rate, **chunks)
            for i in range(rate * 4)
        ]
    load = {
        "kind": "open",
        "arrivals": {"process": "poisson", "rate": 6},
        "steps": [1, 2, 3],
        "step_s": 5,
    }
    drawn = _pareto(conclude(run(rows, of=scenario(load=load), offered={}), SLO).stages)
    lines = re.findall(r'points="([^"]*)"', drawn)
    assert [len(line.split()) for line in lines] == [3, 2]


def test_a_csv_has_a_row_for_each_group_and_a_column_for_each_number() -> None:
    rows = list(csv.DictReader(io.StringIO(csv_text([("one", result()), ("two", result())]))))
    assert [row["result"] for row in rows] == ["one"] * (len(rows) // 2) + ["two"] * (
        len(rows) // 2
    )
    tenants = [row["name"] for row in rows if (row["result"], row["kind"]) == ("one", "tenants")]
    assert tenants == ["a", "b"]
    assert rows[0]["outcomes.stream_error"] == "1"
    assert float(rows[0]["latency.ttft.p50"]) == 0.1
