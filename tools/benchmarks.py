"""The measured figures of docs/data: the tables and pictures of docs/benchmarks.md.

    python -m tools.benchmarks            # the names of the files
    python -m tools.benchmarks frontend   # every row and column of one

Each row names its run, of which `runs.csv` has the date, machine and command; one with `shown`
stands in the page. `python -m tools.generate` writes the page and the pictures.
"""

import csv
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tools.bar_chart import drawn
from tools.command_line import command_line
from tools.markdown_pages import replaced

ROOT = Path(__file__).parents[1]
DATA = ROOT / "docs/data"
PAGE = ROOT / "docs/benchmarks.md"

Row = Mapping[str, str]
Groups = Mapping[str, Mapping[str, float]]

TABLES: Mapping[str, Mapping[str, str]] = {
    "streams": {"": "measure", "service / vllm": "service / vllm"},
    "decode": {
        "server": "server",
        "tokens/s, one stream": "one_s",
        "32": "many_s",
    },
    "frontend": {
        "": "kind",
        "streams": "streams",
        "CPU, us a token": "cpu_us_token / cpu_us_token_vllm",
        "tokens/s": "tokens_s / tokens_s_vllm",
        "TTFT p99, ms": "ttft_p99 / ttft_p99_vllm",
    },
    "overload": {
        "stage": "stage",
        "server": "server",
        "goodput, %": "goodput_percent",
        "TTFT p50, ms": "ttft_p50",
        "not answered": "not_answered",
    },
    "shares": {
        "tenant": "tenant",
        "offered/s": "offered_s",
        "tokens/s": "tokens_s",
        "TTFT p95, ms": "ttft_p95",
        "Jain's index": "jain",
    },
    "light": {
        "scheduler of steps": "scheduler",
        "beside the flood / an equal tenant, ms": "beside_ms / alone_ms",
        "flood, answers/s": "flood_answers_s",
    },
    "background": {
        "beside": "beside",
        "`max_in_flight`": "max_in_flight",
        "TTFT p95, ms, beside / alone": "ttft_beside / ttft_alone",
        "TPOT p95, ms, beside / alone": "tpot_beside / tpot_alone",
        "background, answers/s": "background_s",
    },
    "adapters": {"": "measure", "service / base": "service / base", "vllm / base": "vllm / base"},
    "classify": {
        "prompt": "prompt",
        "inputs a request": "inputs_request",
        "way": "way",
        "inputs/s": "inputs_s",
        "CPU, us an input": "cpu_us",
    },
    "encoders": {
        "": "work",
        "texts/s": "texts_s / texts_s_other",
        "answer, mean, ms": "mean_ms / mean_ms_other",
    },
    "faults": {
        "fault": "fault",
        "times": "times",
        "median, s": "median_s",
        "longest, s": "longest_s",
        "then": "seen",
    },
}
"""For each file with a table in the page: the headings, each with one or two columns."""


def _goodput() -> Groups:
    """Offered requests/s times the share that was answered within the objectives, by stage."""
    stages: dict[str, dict[str, float]] = {}
    for row in shown("overload"):
        rate = float(row["offered_s"]) * float(row["goodput_percent"]) / 100
        stages.setdefault(row["stage"], {})[row["server"]] = rate
    return stages


def _frontend() -> Groups:
    return {
        f"{row['kind'].partition(',')[0]}, {row['streams']}": {
            "this service": float(row["cpu_us_token"]),
            "vllm serve": float(row["cpu_us_token_vllm"]),
        }
        for row in shown("frontend")
        if row["run"] in {"frontend", "frontend-levels"} and row["itl_p50"]
    }


def _fairness() -> Groups:
    return {
        row["scheduler"]: {
            "beside an equal tenant": float(row["alone_ms"]),
            "beside a flood of 40 requests/s": float(row["beside_ms"]),
        }
        for row in shown("light")
        if row["run"] == "light"
    }


def _adapters() -> Groups:
    return {
        row["measure"]: {
            "this service's operators": 100 * float(row["service"]) / float(row["base"]),
            "vLLM's operators": 100 * float(row["vllm"]) / float(row["base"]),
        }
        for row in shown("adapters")
        if row["measure"].startswith(("answers", "generation", "one-token"))
    }


class Chart(NamedTuple):
    """A picture of the page."""

    title: str
    axis: str
    groups: Callable[[], Groups]


CHARTS: Mapping[str, Chart] = {
    "goodput": Chart(
        "Requests/s answered within the objectives",
        "offered load, times 1.6 requests/s, in this order",
        _goodput,
    ),
    "frontend": Chart("CPU of the API process, us a token", "kind and streams", _frontend),
    "fairness": Chart(
        "Time to first token of a light tenant, p95, ms",
        "scheduler of the engine's steps",
        _fairness,
    ),
    "adapters-cpu": Chart("Four adapters, % of the base alone", "", _adapters),
}


def rows(name: str) -> list[dict[str, str]]:
    """The rows of a file of docs/data."""
    with (DATA / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def shown(name: str) -> list[dict[str, str]]:
    """The rows of a file that stand in the page."""
    return [row for row in rows(name) if row["shown"]]


def table(name: str) -> str:
    """The table of a file as Markdown; rows of several runs have a column that names theirs."""
    columns = TABLES[name]
    named = {row["run"]: f"[{row['run']}](data/runs.csv)" for row in shown(name)}
    one = len(named) == 1
    lines = [[*columns] if one else [*columns, "run"]]
    lines.append(["---"] * len(lines[0]))
    for row in shown(name):
        cells = [_cell(row, column) for column in columns.values()]
        lines.append(cells if one else [*cells, named[row["run"]]])
    return _markdown(lines) + (f"\n\nRun: {next(iter(named.values()))}." if one else "")


def _cell(row: Row, column: str) -> str:
    """A figure, or two with their ratio: the median of the rounds' ratios where the file has it."""
    first, _, second = column.partition(" / ")
    if not second or not (row[first] and row[second]):
        return _number(row[first])
    ratio = row.get(f"{first}_ratio") or f"{float(row[first]) / float(row[second]):.2f}"
    return f"{_number(row[first])}/{_number(row[second])} ({ratio})"


def _number(text: str) -> str:
    """A number from 1,000 on without decimals and with separators; any other text as it is."""
    return f"{float(text):,.0f}" if re.fullmatch(r"\d{4,}(\.\d+)?", text) else text


def _markdown(lines: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |".replace("|  |", "| |") for line in lines)


def page() -> str:
    """docs/benchmarks.md with the current tables."""
    text = PAGE.read_text(encoding="utf-8")
    for name in TABLES:
        text = replaced(text, name, table(name))
    return text


def _picture(chart: Chart) -> str:
    return drawn(chart.title, chart.axis, chart.groups())


PICTURES = {
    ROOT / f"docs/images/{name}.svg": partial(_picture, chart) for name, chart in CHARTS.items()
}
"""The pictures, each with the function that makes its text."""


def main() -> int:
    """Print a file; returns the exit code."""
    names = sorted(file.stem for file in DATA.glob("*.csv"))
    parser = command_line("tools.benchmarks", __doc__)
    parser.add_argument("name", nargs="?", choices=names)
    name: str | None = parser.parse_args().name
    if name is None:
        print("\n".join(names))
        return 0
    body = rows(name)
    print(_markdown([list(body[0]), *[list(row.values()) for row in body]]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
