"""Write every file that is generated from the code, or say which are out of date.

    python -m tools.generate            # `make generate`, which writes tests/helm/golden too
    python -m tools.generate --check

The second command writes nothing; it prints the names of files that differ and ends with 1.
"""

import json
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from deploy.grafana.dashboard import PAGES, rendered
from evaluation.suite import suite_json_schema
from loadtests.analysis.result import Result
from service.adapters.manifest import manifest_json_schema
from tools import (
    adapters_table,
    api_reference,
    benchmarks,
    chart_files,
    compatibility,
    decisions_index,
    guards_table,
    layers,
    metrics_catalogue,
    packages_table,
    settings_table,
    vllm_uses,
)
from tools.command_line import command_line
from tools.helm import crds

ROOT = Path(__file__).parents[1]


def as_json(schema: Mapping[str, Any], indent: int) -> str:
    """A JSON Schema as it is kept in a file."""
    return json.dumps(schema, indent=indent) + "\n"


GENERATED: Mapping[Path, Callable[[], str]] = {
    adapters_table.PAGE: adapters_table.page,
    api_reference.PAGE: api_reference.page,
    benchmarks.PAGE: benchmarks.page,
    **benchmarks.PICTURES,
    chart_files.README: chart_files.readme_text,
    chart_files.ROUTES: chart_files.routes_text,
    chart_files.SCHEMA: chart_files.schema_text,
    compatibility.PAGE: compatibility.page,
    crds.README: crds.readme,
    decisions_index.PAGE: decisions_index.page,
    guards_table.PAGE: guards_table.page,
    layers.PAGE: layers.page,
    metrics_catalogue.PAGE: metrics_catalogue.page,
    packages_table.PAGE: packages_table.page,
    settings_table.PAGE: settings_table.page,
    vllm_uses.PAGE: vllm_uses.page,
    ROOT / "docs/schemas/adapter.schema.json": lambda: as_json(manifest_json_schema(), 2),
    ROOT / "docs/schemas/suite.schema.json": lambda: as_json(suite_json_schema(), 2),
    ROOT / "loadtests/result.schema.json": lambda: as_json(Result.model_json_schema(), 1),
    **{ROOT / f"deploy/grafana/{page.uid}.json": partial(rendered, page) for page in PAGES},
}
"""Generated files, each with the function that makes its text."""


def out_of_date() -> dict[Path, str]:
    """The files that are out of date, each with its new text."""
    texts = {file: text() for file, text in GENERATED.items()}
    return {file: text for file, text in texts.items() if _held(file) != text}


def _held(file: Path) -> str | None:
    return file.read_text(encoding="utf-8") if file.is_file() else None


def main() -> None:
    """Write or check, and name the files that differ."""
    parser = command_line("tools.generate", __doc__)
    parser.add_argument("--check", action="store_true", help="Write nothing; end with 1.")
    check: bool = parser.parse_args().check
    differing = out_of_date()
    for file, text in differing.items():
        sys.stdout.write(f"{'differs' if check else 'written'}: {file.relative_to(ROOT)}\n")
        if not check:
            file.write_text(text, encoding="utf-8")
    sys.exit(bool(check and differing))


if __name__ == "__main__":
    main()
