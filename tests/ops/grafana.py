"""Grafana's own schema of dashboards, as JSON Schema, from the types that it publishes on npm."""

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VERSION = "13.2.3"
"""Of @grafana/schema; compose names a Grafana of the same minor version."""
_GENERATOR = "ts-json-schema-generator@2.4.0"
_FOLDER = Path(__file__).parents[2] / ".cache" / "grafana" / VERSION
_PANEL = (
    "@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen"
)
_ENTRY = f"""
import type {{ Dashboard }} from '@grafana/schema';
import type {{ FieldConfig, Options }} from '{_PANEL}';
export interface Checked {{ dashboard: Dashboard; options: Options; custom: FieldConfig }}
"""
_COMPILER = {"module": "nodenext", "moduleResolution": "nodenext", "skipLibCheck": True}


@dataclass(frozen=True)
class Schemas:
    """JSON Schemas of a dashboard, and of a time series' options and own fields."""

    dashboard: dict[str, Any]
    options: dict[str, Any]
    custom: dict[str, Any]


def grafana_schemas() -> Schemas:
    """The schemas, of packages that npm fetches once; AssertionError where npm cannot."""
    file = _FOLDER / "schema.json"
    if not file.exists():
        _FOLDER.mkdir(parents=True, exist_ok=True)
        (_FOLDER / "checked.ts").write_text(_ENTRY)
        compiler = {"compilerOptions": _COMPILER, "files": ["checked.ts"]}
        (_FOLDER / "tsconfig.json").write_text(json.dumps(compiler))
        quiet = ("--no-audit", "--no-fund", "--no-package-lock", "--loglevel", "error")
        _run("npm", "install", *quiet, f"@grafana/schema@{VERSION}", _GENERATOR)
        # Types of one name stand in several files, so each is written out where it is used.
        options = ("--type", "Checked", "--expose", "none", "--no-type-check", "--out", file.name)
        _run("npx", "ts-json-schema-generator", "--path", "checked.ts", *options)
    definition = json.loads(file.read_text())["definitions"]["Checked"]
    return Schemas(**definition["properties"])


def _run(program: str, *arguments: str) -> None:
    found = shutil.which(program)
    assert found, f"{program} was not found: install Debian's package npm"
    done = subprocess.run([found, *arguments], cwd=_FOLDER, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
