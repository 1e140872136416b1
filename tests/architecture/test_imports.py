"""Imports of each part of the service: the arrows of the design, read from the source."""

import graphlib
from functools import cache

import pytest

from tests.architecture.source import imports, modules
from tools.layers import ALLOWED, floor

HTTP = (
    "service.app",
    "service.http",
    "service.plugins",
    "service.routes",
    "service.runtime.parts",  # a plugin may have routes
)
OWNERS = {
    "vllm": ("service.vllm", "service.plugins.planning"),
    "fastapi": HTTP,
    "fastapi_offline": ("service.routes",),
    "starlette": HTTP,
    "uvicorn": ("service.http",),
    "httptools": ("service.http",),
    "python_multipart": ("service.plugins.batches",),
    "sqlite3": ("service.common.database", "service.plugins.batches", "service.plugins.usage"),
    "typer": ("service.cli", "service.plugins", "service.common.command_line"),
}
"""Libraries that only these may import."""

MODULES = modules()
ROOTS = {"service", "service.plugins"}
MOST_ROOMS, MOST_FLOORS = 25, 12


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
    """The package of a module; each plugin is one, and errors belong to what all share."""
    parts = name.split(".")
    if parts[1] == "errors":
        return "common"
    return ".".join(parts[1:3]) if parts[1] == "plugins" and parts[2:] else parts[1]


def imported_packages() -> dict[str, set[str]]:
    """Packages of the service with the packages that their modules import."""
    found: dict[str, set[str]] = {}
    for name in MODULES.keys() - ROOTS:
        packages = {package_of(other) for other in imported_modules()[name] - ROOTS}
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


@pytest.mark.parametrize("house", ["training", "evaluation"])
def test_the_service_imports_nothing_that_serves_no_request(house: str) -> None:
    users = [
        name
        for name, path in MODULES.items()
        if any(within(found, house) for found in imports(path))
    ]
    assert users == []


def test_no_plugin_imports_another_and_the_core_imports_none() -> None:
    plugins = {name for name in ALLOWED if name.startswith("plugins.")}
    users = {name: set(listed.split()) & plugins for name, listed in ALLOWED.items()}
    assert {name: found for name, found in users.items() if found} == {}


def test_there_are_few_rooms_and_few_floors() -> None:
    assert len({name.partition(".")[0] for name in ALLOWED}) <= MOST_ROOMS
    assert max(map(floor, ALLOWED)) <= MOST_FLOORS


def test_errors_import_none_of_the_service() -> None:
    assert {name.partition(".")[0] for name in imports(MODULES["service.errors"])} == {
        "math",
        "random",
        "typing",
    }
