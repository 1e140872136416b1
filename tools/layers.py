"""The packages of the service, their allowed imports, and the page that shows them.

A module that stands alone in `service/` counts as a package here.
"""

import ast
from functools import cache
from pathlib import Path

from tools.marked import page_with

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "architecture.md"

ALLOWED: dict[str, str] = {
    "console": "",
    "engine": "",
    "errors": "",
    "files": "",
    "histogram": "",
    "hosts": "",
    "operations": "",
    "per_second": "",
    "quoting": "",
    "together": "",
    "database": "errors",
    "local_disk": "errors",
    "redis_client": "errors",
    "sources": "errors files hosts quoting",
    "encoders": "engine errors together",
    "model": "engine errors files quoting sources",
    "plain_yaml": "errors quoting",
    "settings": "errors plain_yaml quoting",
    "memory": "model",
    "adapters": "errors files model plain_yaml quoting settings sources together",
    "heads": "adapters engine files model sources",
    "limits": "engine errors quoting settings",
    "materials": "adapters",
    "tenants": "errors plain_yaml quoting redis_client settings together",
    "context": "engine errors tenants",
    "gate": "context engine errors settings tenants together",
    "generation": "context engine errors gate together",
    "openai": "context engine errors generation limits quoting settings tenants together",
    "classification": "adapters context encoders engine errors quoting together",
    "evaluation": "adapters classification errors files plain_yaml quoting settings together",
    "correctness": "adapters classification engine errors evaluation generation quoting together",
    "batches": (
        "database errors files limits local_disk quoting redis_client settings sources tenants "
        "together"
    ),
    "usage": "context database errors local_disk operations redis_client together",
    "telemetry": (
        "batches context engine errors histogram operations per_second settings tenants usage"
    ),
    "releases": "context errors files local_disk operations quoting settings telemetry",
    "feedback": "context engine errors files releases settings telemetry",
    "proving": (
        "adapters classification context engine errors generation heads model sources together"
    ),
    "vllm": (
        "context engine errors gate generation heads histogram limits memory model quoting settings"
    ),
    "fleet": (
        "adapters classification context engine errors generation model proving quoting releases "
        "settings telemetry tenants together"
    ),
    "guards": (
        "classification context errors fleet generation quoting settings telemetry together"
    ),
    "runtime": (
        "adapters batches classification engine errors feedback fleet gate guards materials "
        "proving releases settings sources telemetry tenants together usage"
    ),
    "api": (
        "adapters batches classification console context encoders engine errors feedback fleet "
        "generation guards hosts limits materials openai operations per_second proving quoting "
        "releases runtime settings telemetry tenants together usage"
    ),
    "finetune": (
        "adapters classification context engine errors files generation heads model plain_yaml "
        "proving quoting runtime settings telemetry together vllm"
    ),
    "app": "api batches runtime settings telemetry vllm",
    "serving": "api app errors runtime settings telemetry",
    "commands": (
        "adapters api batches correctness errors evaluation feedback files finetune heads memory "
        "model plain_yaml proving quoting releases runtime serving settings sources telemetry "
        "tenants usage vllm"
    ),
}
"""Imports of each package, the lowest packages first: no package imports a later one."""


@cache
def floor(package: str) -> int:
    """The number of packages that stand one on another below this one, plus one."""
    return 1 + max((floor(other) for other in ALLOWED[package].split()), default=0)


def described(package: str) -> str:
    """The first sentence of a package's docstring."""
    folder = ROOT / "service" / package
    file = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return text.partition("\n")[0]


def layers() -> str:
    """A Markdown table of the packages from the bottom to the top."""
    lines = [
        "Imports point one way: a package imports only from floors below its own, and there",
        "only what [tools/layers.py](../tools/layers.py) lists; `tests/architecture` holds it.",
        "",
        "| floor | package | what it is |",
        "| --- | --- | --- |",
    ]
    for package in sorted(ALLOWED, key=floor):
        shown = f"{package}/" if (ROOT / "service" / package).is_dir() else f"{package}.py"
        lines.append(f"| {floor(package)} | `{shown}` | {described(package)} |")
    return "\n".join(lines)


def page() -> str:
    """docs/architecture.md with the current table."""
    return page_with(PAGE, "layers", layers())
