"""Imports of each part of the service: the arrows of the design, read from the source."""

import graphlib
from functools import cache

import pytest

from tests.architecture.source import imports, modules
from tools.layers import ALLOWED

OWNERS = {
    "vllm": ("service.vllm",),
    "fastapi": ("service.api", "service.app"),
    "fastapi_offline": ("service.api",),
    "starlette": ("service.api", "service.app"),
    "uvicorn": ("service.api",),
    "httptools": ("service.api",),
    "python_multipart": ("service.api",),
    "jinja2": ("evaluation",),
    "sqlite3": ("service.common.database", "service.plugins.batches", "service.plugins.usage"),
    "typer": ("service.cli",),
    "peft": ("training",),
    "sacrebleu": ("training",),
    "sklearn": ("training",),
    "matplotlib": ("training",),
}
"""Libraries that only these may import."""

MODULES = modules()


@cache
def imported_modules() -> dict[str, set[str]]:
    """Modules of the service with those that they import; the parent package is none of them."""
    return {
        name: {found for found in imports(path) if found in MODULES} - {name, "service"}
        for name, path in MODULES.items()
    }


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def package_of(name: str) -> str:
    return name.split(".")[1]


def imported_packages() -> dict[str, set[str]]:
    """Packages of the service with the packages that their modules import."""
    found: dict[str, set[str]] = {}
    for name in MODULES.keys() - {"service"}:
        packages = {package_of(other) for other in imported_modules()[name]}
        found.setdefault(package_of(name), set()).update(packages - {package_of(name)})
    return found


def test_each_package_imports_what_the_table_lists_and_all_of_it() -> None:
    assert imported_packages() == {name: set(listed.split()) for name, listed in ALLOWED.items()}


def test_the_table_points_downwards() -> None:
    order = list(ALLOWED)
    upward = [
        f"{name} -> {other}"
        for name, listed in ALLOWED.items()
        for other in listed.split()
        if order.index(other) >= order.index(name)
    ]
    assert upward == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {
        name: {other for other in found if not within(name, other)}
        for name, found in imported_modules().items()
    }
    try:
        order = list(graphlib.TopologicalSorter(graph).static_order())
    except graphlib.CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))
    assert order.index("service.errors") < order.index("service.cli.main")


@pytest.mark.parametrize("library", OWNERS)
def test_a_library_is_imported_by_its_owners_only(library: str) -> None:
    users = [
        name
        for name, path in MODULES.items()
        if any(within(found, library) for found in imports(path))
    ]
    assert users
    assert [
        name for name in users if not any(within(name, owner) for owner in OWNERS[library])
    ] == []


def test_errors_import_none_of_the_service() -> None:
    assert {name.partition(".")[0] for name in imports(MODULES["service.errors"])} == {
        "math",
        "random",
        "typing",
    }
