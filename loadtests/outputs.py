"""The files that runs, searches and comparisons leave.

run      result.json, requests.jsonl.gz, junit.xml, report.html
search   search.json, report.html, and a folder for each probe
compare  comparison.json, report.html, and a folder for each round and server
"""

import gzip
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from loadtests.analysis.breakdown import Breakdown
from loadtests.analysis.duel import Duel, Round
from loadtests.analysis.objectives import Objectives
from loadtests.analysis.result import SCHEMA_VERSION, Result, conclude
from loadtests.analysis.run import Run
from loadtests.analysis.searched import Searched, searched
from loadtests.protocol.record import Record
from loadtests.report.console import show
from loadtests.report.csv_text import csv_text
from loadtests.report.duel_page import duel_page
from loadtests.report.junit import junit
from loadtests.report.markdown import merged, sections
from loadtests.report.page import page
from loadtests.search import Knee

RESULT = "result.json"
REQUESTS = "requests.jsonl.gz"
COMPARISON = "comparison.json"
SEARCH = "search.json"
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
    out.mkdir(parents=True, exist_ok=True)
    found = searched(knee, results)
    (out / SEARCH).write_text(found.model_dump_json(indent=1) + "\n", encoding="utf-8")
    if not results:
        return
    probed = sorted(zip(knee.probes, results, strict=True), key=lambda pair: pair[0])
    best = max(probed, key=lambda pair: (pair[0][1], pair[0][0]))[1]
    stages = [
        result.overall.model_copy(update={"name": f"{rate:.3g}/s"}) for (rate, _), result in probed
    ]
    (out / PAGE).write_text(page(best.model_copy(update={"stages": stages})), encoding="utf-8")


def write_duel(out: Path, duel: Duel) -> None:
    """The comparison and its page."""
    out.mkdir(parents=True, exist_ok=True)
    (out / COMPARISON).write_text(duel.model_dump_json(indent=1) + "\n", encoding="utf-8")
    (out / PAGE).write_text(duel_page(duel), encoding="utf-8")


def write_reports(folders: Sequence[Path], document: Path | None, csv: Path | None = None) -> None:
    """The pages of finished results anew, one Markdown document and one CSV of all of them.

    An existing document keeps what is outside of its markers. Raises OSError for a folder without a
    result, ValueError for a result of another version and for a document with broken markers.
    """
    found: list[Result | Duel | Searched] = []
    for folder in folders:
        found.append(_read(folder))
        match found[-1]:
            case Result() as result:
                (folder / PAGE).write_text(page(result), encoding="utf-8")
            case Duel() as duel:
                (folder / PAGE).write_text(duel_page(duel), encoding="utf-8")
    if csv is not None:
        csv.write_text(csv_text(list(_parts(folders, found))), encoding="utf-8")
    if document is not None:
        before = document.read_text(encoding="utf-8") if document.exists() else None
        document.write_text(merged(before, sections(found)), encoding="utf-8")


def _parts(
    folders: Sequence[Path], found: Sequence[Result | Duel | Searched]
) -> Iterator[tuple[str, Breakdown]]:
    """Runs, the probes of searches, the sides of comparisons, each with its name."""
    for folder, result in zip(folders, found, strict=True):
        match result:
            case Result():
                yield str(folder), result
            case Duel(first=first, second=second):
                yield f"{folder}: {first.name}", first
                yield f"{folder}: {second.name}", second
            case Searched():
                for probe in sorted(folder.glob("probe-*")):
                    yield str(probe), read_result(probe)


def read_search(folder: Path) -> Searched:
    """The search in a folder; raises OSError or pydantic's ValidationError."""
    return Searched.model_validate_json((folder / SEARCH).read_text(encoding="utf-8"))


def _read(folder: Path) -> Result | Duel | Searched:
    if (folder / COMPARISON).is_file():
        return _read_duel(folder)
    if (folder / SEARCH).is_file():
        return read_search(folder)
    return read_result(folder)


def _read_duel(folder: Path) -> Duel:
    return Duel.model_validate(_of_this_version(folder / COMPARISON))


def read_round(folder: Path) -> Round:
    """A run's result and the requests of its load; raises OSError or ValueError."""
    result = read_result(folder)
    background = result.beside.workload if result.beside else None
    return result, [each for each in read_records(folder) if each.workload != background]


def read_result(folder: Path) -> Result:
    """The result in a folder; raises OSError, or ValueError for one of another version."""
    return Result.model_validate(_of_this_version(folder / RESULT))


def _of_this_version(path: Path) -> object:
    tree = json.loads(path.read_text(encoding="utf-8"))
    version = tree.get("schema_version") if isinstance(tree, dict) else None
    if version != SCHEMA_VERSION:
        raise ValueError(f"{path}: schema_version must be {SCHEMA_VERSION}, got {version}")
    return tree


def read_records(folder: Path) -> list[Record]:
    """The requests in a folder; raises OSError."""
    with gzip.open(folder / REQUESTS, "rt", encoding="utf-8") as file:
        return [Record.from_row(json.loads(line)) for line in file]
