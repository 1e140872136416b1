"""`training` and `evaluation` stand beside the service: they use its formats, not its parts."""

import pytest

from tests.architecture.source import imports, modules

SIDE = ("training", "evaluation")
SHARED = {
    "service.adapters",
    "service.classification",
    "service.common",
    "service.engine",
    "service.errors",
    "service.models",
    "service.settings",
    "service.sources",
}
"""What both may import: formats, mathematics and helpers."""
LIBRARIES = {"jinja2", "matplotlib", "peft", "sacrebleu", "sklearn"}
"""What only their extras install."""
ENGINE = {"training.offline", "training.fingerprints"}
"""The one way to an engine: these use what serves."""
COMMANDS = {
    "training.adapter_commands": {"service.cli.adapters"},
    "training.model_commands": {"service.cli.model"},
}
"""Modules that add to the service's own commands."""


def within(name: str, packages: set[str]) -> bool:
    return any(name == each or name.startswith(f"{each}.") for each in packages)


def test_the_service_imports_none_of_their_libraries() -> None:
    users = {
        f"{name} -> {found}"
        for name, path in modules().items()
        for found in imports(path)
        if found.partition(".")[0] in LIBRARIES
    }
    assert users == set()


@pytest.mark.parametrize("package", SIDE)
def test_they_import_formats_and_not_the_server(package: str) -> None:
    foreign = {
        f"{name} -> {found}"
        for name, path in modules(package).items()
        for found in imports(path)
        if name not in ENGINE and within(found, {"service"}) and found != "service"
        if not within(found, SHARED | COMMANDS.get(name, set())) and found != "service.cli"
    }
    assert foreign == set()


def test_they_import_each_other_only_for_the_old_way_to_measure_a_run() -> None:
    users = {
        (name, found)
        for package, other in (SIDE, SIDE[::-1])
        for name, path in modules(package).items()
        for found in imports(path)
        if within(found, {other})
    }
    assert {name for name, _ in users} <= {"evaluation.commands.evaluate"}
