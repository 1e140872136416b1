"""Bills of materials in CycloneDX: components, their licences and the documents."""

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.metadata import Distribution, distributions
from typing import Any

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
from pydantic import JsonValue

from service.adapters.manifest import Manifest

_LONGEST = 100
_MIT = "Permission is hereby granted, free of charge, to any person obtaining a copy"
_SAYS_NOTHING = ("license", "dual license", "unknown")


def licence(package: Distribution) -> str:
    """The licence in a package's metadata:

    an SPDX expression, a text or a classifier. Without one, the first line of its licence file.
    """
    return next(text for text in _candidates(package) if _says_something(text))


def _candidates(package: Distribution) -> Iterator[str]:
    def field(name: str) -> list[str]:
        return package.metadata.get_all(name) or []

    yield from field("License-Expression")
    yield from field("License")
    classifiers = [each for each in field("Classifier") if each.startswith("License ::")]
    yield " or ".join(each.split(" :: ")[-1] for each in classifiers)
    for text in field("License"):
        yield from _first_lines(text)
    for file in field("License-File"):
        for place in (f"licenses/{file}", file):
            yield from _first_lines(package.read_text(place) or "")
    yield "not named"


def _first_lines(text: str) -> Iterator[str]:
    for line in text.splitlines():
        yield "MIT" if line.strip() == _MIT else line.strip()


def _says_something(text: str) -> bool:
    one_line = 0 < len(text) <= _LONGEST and "\n" not in text
    return one_line and text.strip().lower() not in _SAYS_NOTHING


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


MEDIA_TYPE = "application/vnd.cyclonedx+json; version=1.6"


def bill_of(component: Component, parts: Sequence[Component] = ()) -> dict[str, Any]:
    """The bill of one component and its parts; the same content always gives the same bill."""
    content = json.dumps([component, *parts], sort_keys=True)
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": uuid.uuid5(uuid.NAMESPACE_URL, content).urn,
        "version": 1,
        "metadata": {"component": component},
        "components": list(parts),
        "dependencies": [
            {"ref": component["bom-ref"], "dependsOn": [part["bom-ref"] for part in parts]}
        ],
    }


def service_bill(version: str, models: Sequence[Component]) -> dict[str, Any]:
    """The bill of the running service: its models and the Python packages that are installed."""
    service = {
        "type": "application",
        "bom-ref": f"llm-service@{version}",
        "name": "llm-service",
        "version": version,
        **licences("Apache-2.0"),
    }
    return bill_of(service, [*models, *_packages()])


@cache
def _packages() -> tuple[Component, ...]:
    """The installed packages by name, each once: Python imports the first that it finds."""
    found: dict[str, Component] = {}
    for package in distributions():
        if package.name.lower() != "llm-service":
            found.setdefault(package.name.lower(), _package(package))
    return tuple(found[name] for name in sorted(found))


def _package(package: Distribution) -> Component:
    reference = f"pkg:pypi/{package.name.lower().replace('_', '-')}@{package.version}"
    return {
        "type": "library",
        "bom-ref": reference,
        "name": package.name,
        "version": package.version,
        "purl": reference,
        **licences(licence(package)),
    }
