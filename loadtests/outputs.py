"""The files of a run: result.json, requests.jsonl.gz, junit.xml and report.html."""

import gzip
import json
from pathlib import Path

from loadtests.analysis.objectives import Objectives
from loadtests.analysis.result import Result, conclude
from loadtests.analysis.run import Run
from loadtests.protocol.record import Record
from loadtests.report.console import show
from loadtests.report.junit import junit
from loadtests.report.page import page

RESULT = "result.json"
REQUESTS = "requests.jsonl.gz"


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
        (out / "report.html").write_text(page(result), encoding="utf-8")
    show(result)
    return result


def read_result(folder: Path) -> Result:
    """The result in a folder; raises OSError or pydantic's ValidationError."""
    return Result.model_validate_json((folder / RESULT).read_text(encoding="utf-8"))


def read_records(folder: Path) -> list[Record]:
    """The requests in a folder; raises OSError."""
    with gzip.open(folder / REQUESTS, "rt", encoding="utf-8") as file:
        return [Record.from_row(json.loads(line)) for line in file]
