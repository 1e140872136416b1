"""The files that runs, searches and comparisons leave.

run      result.json, requests.jsonl.gz, junit.xml, report.html
search   search.json, report.html, and a folder for each probe
compare  comparison.json, report.html, and a folder for each round and server
"""

import gzip
import json
from collections.abc import Sequence
from pathlib import Path

from pydantic_core import to_json

from loadtests.analysis.duel import Duel
from loadtests.analysis.objectives import Objectives
from loadtests.analysis.result import Result, conclude
from loadtests.analysis.run import Run
from loadtests.protocol.record import Record
from loadtests.report.console import show
from loadtests.report.duel_page import duel_page
from loadtests.report.junit import junit
from loadtests.report.markdown import markdown
from loadtests.report.page import page
from loadtests.search import Knee

RESULT = "result.json"
REQUESTS = "requests.jsonl.gz"
COMPARISON = "comparison.json"
PAGE = "report.html"


def write_outputs(run: Run, objectives: Objectives | None, out: Path | None) -> Result:
    """Judge a run, write its files into `out` if there is one, and show the summary."""
    result = conclude(run, objectives)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / RESULT).write_text(result.model_dump_json(indent=1) + "\n", encoding="utf-8")
        with gzip.open(out / REQUESTS, "wt", encoding="utf-8") as file:
            for record in run.records:
                file.write(json.dumps(record.row(), separators=(",", ":")) + "\n")
        (out / "junit.xml").write_text(junit(result), encoding="utf-8")
        (out / PAGE).write_text(page(result), encoding="utf-8")
    show(result)
    return result


def write_search(out: Path, knee: Knee, results: list[Result]) -> None:
    """The probes' rates and verdicts, and a page with every probe as a stage."""
    probes = [
        {"rate": rate, "passed": good, "goodput": result.overall.goodput}
        for (rate, good), result in zip(knee.probes, results, strict=True)
    ]
    tree = {"passed": knee.passed, "failed": knee.failed, "probes": probes}
    (out / "search.json").write_text(to_json(tree, indent=1).decode() + "\n", encoding="utf-8")
    best = max(
        (pair for pair in zip(knee.probes, results, strict=True)),
        key=lambda pair: (pair[0][1], pair[0][0]),
    )[1]
    stages = [
        result.overall.model_copy(update={"name": f"{rate:.3g}/s"})
        for (rate, _), result in sorted(zip(knee.probes, results, strict=True), key=lambda p: p[0])
    ]
    whole = best.model_copy(update={"stages": stages})
    (out / PAGE).write_text(page(whole), encoding="utf-8")


def write_duel(out: Path, duel: Duel) -> None:
    """The comparison and its page."""
    out.mkdir(parents=True, exist_ok=True)
    (out / COMPARISON).write_text(duel.model_dump_json(indent=1) + "\n", encoding="utf-8")
    (out / PAGE).write_text(duel_page(duel), encoding="utf-8")


def write_reports(folders: Sequence[Path], document: Path | None) -> None:
    """The pages of finished results anew, and one Markdown document of all of them.

    Raises OSError for a folder without a result, pydantic's ValidationError for another's.
    """
    results: list[Result] = []
    duels: list[Duel] = []
    for folder in folders:
        if (folder / COMPARISON).is_file():
            text = (folder / COMPARISON).read_text(encoding="utf-8")
            duels.append(Duel.model_validate_json(text))
            (folder / PAGE).write_text(duel_page(duels[-1]), encoding="utf-8")
        else:
            results.append(read_result(folder))
            (folder / PAGE).write_text(page(results[-1]), encoding="utf-8")
    if document is not None:
        document.write_text(markdown(results, duels), encoding="utf-8")


def read_result(folder: Path) -> Result:
    """The result in a folder; raises OSError or pydantic's ValidationError."""
    return Result.model_validate_json((folder / RESULT).read_text(encoding="utf-8"))


def read_records(folder: Path) -> list[Record]:
    """The requests in a folder; raises OSError."""
    with gzip.open(folder / REQUESTS, "rt", encoding="utf-8") as file:
        return [Record.from_row(json.loads(line)) for line in file]
