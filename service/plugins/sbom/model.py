"""Components of a bill of materials that are models: bases, encoders and adapters."""

from collections.abc import Iterator, Mapping
from typing import Any

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
from pydantic import JsonValue

from service.adapters.manifest import Manifest

Component = dict[str, Any]

_DIGEST = "llm-service:digest"
_TASKS = {"classification": "text-classification", "generation": "text-generation"}


def base_component(name: str, digest: str) -> Component:
    """A base model or an encoder, with the digest under which it is served."""
    return _model(name, digest) | {"bom-ref": name}


def adapter_component(name: str, manifest: Manifest) -> Component:
    """An adapter under its served name: files, data, measured quality, and its base as ancestor."""
    base = manifest.base_model
    ancestor = _model(base.name, base.digest) | licences(manifest.base_license)
    return _model(name, manifest.digest) | {
        "bom-ref": f"{name}@{manifest.version}",
        "version": manifest.version,
        **licences(manifest.license),
        "pedigree": {"ancestors": [ancestor]},
        "components": [_file(name, digest) for name, digest in manifest.files.items()],
        "modelCard": _card(manifest),
    }


def licences(named: str | None) -> dict[str, Any]:
    """The `licenses` of a component: an SPDX expression where it is one, else a name."""
    if named is None:
        return {}
    try:
        return {"licenses": [{"expression": canonicalize_license_expression(named)}]}
    except InvalidLicenseExpression:
        return {"licenses": [{"license": {"name": named}}]}


def _model(name: str, digest: str) -> Component:
    properties = [{"name": _DIGEST, "value": digest}]
    return {"type": "machine-learning-model", "name": name, "properties": properties}


def _file(name: str, digest: str) -> Component:
    hashed = {"alg": "SHA-256", "content": digest.removeprefix("sha256:")}
    return {"type": "file", "name": name, "hashes": [hashed]}


def _card(manifest: Manifest) -> dict[str, Any]:
    parameters: dict[str, Any] = {
        "approach": {"type": "supervised"},
        "task": _TASKS[manifest.task],
    }
    if isinstance(dataset := manifest.evaluation.get("dataset"), str):
        parameters["datasets"] = [{"type": "dataset", "name": dataset}]
    card: dict[str, Any] = {"modelParameters": parameters}
    if metrics := list(_metrics(manifest.evaluation)):
        card["quantitativeAnalysis"] = {"performanceMetrics": metrics}
    return card


def _metrics(evaluation: Mapping[str, JsonValue]) -> Iterator[dict[str, str]]:
    """Numbers that were measured on the test lines, of the adapter and of its base."""
    for measured in ("test", "test_of_the_base"):
        found = evaluation.get(measured)
        for metric, value in found.items() if isinstance(found, dict) else ():
            if isinstance(value, int | float):
                yield {"type": metric, "value": str(value), "slice": measured}
