"""The packages of the service, their allowed imports, and the page that shows them.

A module that stands alone in `service/` counts as a package here.
"""

import ast
from functools import cache
from pathlib import Path

from tools.markdown_pages import item, page_with

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "architecture.md"

ALLOWED: dict[str, str] = {
    "common": "",
    "engine": "",
    "schemas": "",
    "encoders": "common engine",
    "settings": "common",
    "sources": "common",
    "limits": "common engine schemas settings",
    "models": "common engine sources",
    "tenants": "common settings",
    "context": "common engine tenants",
    "admission": "common context engine settings tenants",
    "classification": "common context encoders engine",
    "telemetry": "common context engine settings tenants",
    "generation": "admission common context engine",
    "adapters": (
        "classification common context engine generation models settings sources telemetry tenants"
    ),
    "openai": "common context engine generation limits settings tenants",
    "runtime": (
        "adapters admission classification common context engine generation settings sources "
        "telemetry tenants"
    ),
    "http": "adapters common context engine limits openai runtime settings telemetry tenants",
    "plugin": "runtime settings",
    "vllm": (
        "adapters admission common context engine generation limits models runtime schemas settings"
    ),
    "plugins.batches": (
        "common context http limits plugin runtime settings sources telemetry tenants"
    ),
    "plugins.console": "common http plugin runtime settings telemetry",
    "plugins.decisions": (
        "adapters classification common context engine http limits plugin settings"
    ),
    "plugins.guards": (
        "adapters classification common context engine http limits plugin settings telemetry"
    ),
    "plugins.planning": "adapters common models plugin settings vllm",
    "plugins.rollouts": (
        "adapters classification common context engine generation http plugin runtime "
        "settings telemetry"
    ),
    "plugins.sbom": "adapters common http plugin telemetry",
    "plugins.usage": "common context http plugin settings",
    "routes": (
        "adapters classification common context encoders engine generation http limits openai "
        "runtime settings telemetry"
    ),
    "app": "common http routes runtime settings telemetry vllm",
    "plugins.messages": "common engine generation http limits openai plugin routes settings",
    "plugins.responses": (
        "common context engine generation http limits openai plugin routes settings tenants"
    ),
    "plugins.tei": (
        "adapters classification common encoders engine http limits plugin routes settings"
    ),
    "cli": (
        "adapters admission app common models routes runtime settings sources telemetry "
        "tenants vllm"
    ),
}
"""Imports of each package, the lowest packages first: no package imports a later one."""


@cache
def floor(package: str) -> int:
    """The number of packages that stand one on another below this one, plus one."""
    return 1 + max((floor(other) for other in ALLOWED[package].split()), default=0)


def described(package: str) -> str:
    """The first sentence of a package's docstring."""
    folder = ROOT / "service" / package.replace(".", "/")
    file = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return text.partition("\n")[0]


def layers() -> str:
    """A Markdown list of the packages from the bottom to the top."""
    lines = [
        "Imports point one way: a package imports only from floors below its own, and there",
        "only what [tools/layers.py](../tools/layers.py) lists; `tests/architecture` holds it. The",
        "[plugins](plugins.md) stand above, each in a folder of its own.",
        "Each package's floor is in brackets:",
        "",
    ]
    core = [package for package in ALLOWED if not package.startswith("plugins.")]
    for package in sorted(core, key=floor):
        place = package.replace(".", "/")
        shown = f"{place}/" if (ROOT / "service" / place).is_dir() else f"{place}.py"
        lines.append(item(f"`{shown}` ({floor(package)}): {described(package)}"))
    return "\n".join(lines)


def page() -> str:
    """docs/architecture.md with the current list."""
    return page_with(PAGE, "layers", layers())
