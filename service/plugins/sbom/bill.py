"""Bills of materials in the format of CycloneDX 1.6 (ECMA-424), as JSON documents."""

import json
import uuid
from collections.abc import Sequence
from functools import cache
from importlib.metadata import Distribution, distributions
from typing import Any

from service.plugins.sbom.licence import licence
from service.plugins.sbom.model import Component, licences

MEDIA_TYPE = "application/vnd.cyclonedx+json; version=1.6"


def bill_of(component: Component, parts: Sequence[Component] = ()) -> dict[str, Any]:
    """The bill of one component and its parts; the same for the same content."""
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
