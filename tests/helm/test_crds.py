"""Schemas out of published definitions, and what they take of an object."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from tools.helm import crds
from tools.helm.crds import Project, json_schema, schema_of, write

SPEC: dict[str, Any] = {
    "type": "object",
    "description": "How a kite flies.",
    "required": ["name", "kind"],
    "properties": {
        "name": {"type": "string", "description": "Its name."},
        "kind": {"type": "string", "default": "Delta"},
        "description": {"type": "string", "maxLength": 9},
        "height": {"x-kubernetes-int-or-string": True, "description": "In metres."},
        "line": {"type": "object", "nullable": True, "properties": {"m": {"type": "integer"}}},
        "tail": {"type": "array", "items": {"type": "object", "properties": {"m": {}}}},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "extra": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
    },
}
WHOLE = {"type": "object", "properties": {"spec": SPEC, "status": {"type": "object"}}}
DEFINITION = {
    "spec": {
        "group": "sky.example",
        "names": {"kind": "Kite"},
        "versions": [{"name": "v1", "schema": {"openAPIV3Schema": WHOLE}}],
    }
}


@pytest.fixture
def validator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Draft202012Validator:
    """A validator of kites, written out of a clone of their project."""
    clone = tmp_path / "kites"
    (clone / "crd").mkdir(parents=True)
    (clone / "crd" / "kites.yaml").write_text(yaml.safe_dump(DEFINITION), encoding="utf-8")
    git = ["git", "-C", str(clone), "-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message", "1"]):
        subprocess.run([*git, *command], check=True)
    project = Project("sky/kites", "v1.0", "HEAD", "crd", {"kites.yaml": "v1"})
    monkeypatch.setattr(crds, "PROJECTS", (project,))
    monkeypatch.setattr(crds, "FOLDER", tmp_path)
    write(tmp_path)
    return Draft202012Validator(json_schema("sky.example/v1", "Kite"))


def test_descriptions_and_status_are_left_out() -> None:
    path, schema = schema_of(DEFINITION, "v1")
    assert path.name == "sky.example_Kite_v1.json"
    assert list(schema["properties"]) == ["spec"]
    fields = schema["properties"]["spec"]["properties"]
    assert fields["description"] == {"type": "string", "maxLength": 9}
    assert fields["name"] == {"type": "string"}
    assert "description" not in schema["properties"]["spec"]


def test_a_version_that_is_not_published_is_named() -> None:
    with pytest.raises(ValueError, match="Kite has no version v2"):
        schema_of(DEFINITION, "v2")


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"height": 20},
        {"height": "20m"},
        {"line": None},
        {"labels": {"colour": "red"}},
        {"extra": {"any": {"thing": 1}}},
    ],
)
def test_what_a_server_takes_is_valid(given: dict[str, Any], validator: Any) -> None:
    validator.validate({"metadata": {"name": "k"}, "spec": {"name": "k", **given}})


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"name": None}, "name"),
        ({"heigth": 20}, "heigth"),
        ({"height": 20.5}, "height"),
        ({"line": {"metres": 20}}, "metres"),
        ({"tail": [{"m": 1}, {"n": 1}]}, "'n'"),
        ({"labels": {"colour": 1}}, "colour"),
        ({"extra": None}, "extra"),
    ],
)
def test_what_it_refuses_or_drops_is_not(given: Any, named: str, validator: Any) -> None:
    (error,) = validator.iter_errors({"metadata": {}, "spec": {"name": "k", **given}})
    assert named in error.message + error.json_path
