"""Imports of each part of the service: the arrows of the design, read from the source."""

import graphlib

import pytest

from tests.architecture.source import imports, modules

LAYERS: tuple[tuple[str, ...], ...] = (
    (
        "service.errors",
        "service.files",
        "service.quoting",
        "service.together",
    ),
    ("service.engine", "service.settings"),
    ("service.tenants",),
    ("service.context", "service.limits", "service.model"),
    ("service.gate", "service.telemetry"),
    ("service.adapters",),
    ("service.vllm_engine",),
    ("service.classification", "service.generation"),
    ("service.proving",),
    ("service.fleet",),
    ("service.telemetry.adapters",),
    ("service.runtime",),
    ("service.lifecycle",),
    ("service.api",),
    ("service.app",),
    ("service.serving",),
    ("service.finetune",),
    ("service.commands",),
)
"""Lowest first. A module belongs to its longest prefix here and imports from lower layers, or from
its own entry. An entry of a layer never imports its neighbours in that layer."""

OWNERS = {
    "vllm": ("service.vllm_engine",),
    "fastapi": ("service.api", "service.app", "service.lifecycle"),
    "fastapi_offline": ("service.app",),
    "starlette": ("service.api", "service.app", "service.vllm_engine.openai"),
    "uvicorn": ("service.api",),
    "httptools": ("service.api",),
    "typer": ("service.commands",),
    "peft": ("service.finetune",),
    "sacrebleu": ("service.finetune",),
    "sklearn": ("service.finetune",),
    "matplotlib": ("service.finetune",),
}
"""Libraries that only these may import."""

MODULES = modules()
IMPORTS = {
    name: {found for found in imports(path) if found in MODULES} - {name, "service"}
    for name, path in MODULES.items()
}
ENTRIES = {entry: rank for rank, layer in enumerate(LAYERS) for entry in layer}


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def entry_of(name: str) -> str:
    return max((entry for entry in ENTRIES if within(name, entry)), key=len, default="")


def test_every_module_has_a_layer() -> None:
    assert [name for name in MODULES if name != "service" and not entry_of(name)] == []
    assert {entry_of(name) for name in MODULES if name != "service"} == ENTRIES.keys()


def test_imports_point_downwards() -> None:
    upward = [
        f"{name} -> {other}"
        for name in sorted(MODULES.keys() - {"service"})
        for other in sorted(IMPORTS[name])
        if (target := entry_of(other)) != (entry := entry_of(name))
        and ENTRIES[target] >= ENTRIES[entry]
        and not within(entry, other)  # a package on the way to a module of it
    ]
    assert upward == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {
        name: {other for other in found if not within(name, other)}
        for name, found in IMPORTS.items()
    }
    try:
        order = list(graphlib.TopologicalSorter(graph).static_order())
    except graphlib.CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))
    assert order.index("service.errors") < order.index("service.commands.cli")


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


def test_errors_import_nothing() -> None:
    assert {name.partition(".")[0] for name in imports(MODULES["service.errors"])} == {"typing"}


def test_the_engine_takes_no_more_of_starlette_than_its_state() -> None:
    found = {name for name in imports(MODULES["service.vllm_engine.openai"]) if "starlette" in name}
    assert found == {"starlette.datastructures", "starlette.datastructures.State"}
