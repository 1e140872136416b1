"""The Ingress: its routes, TLS and annotations."""

from typing import Any

import pytest

from tests.helm.kubernetes import check
from tools.helm.chart import KUBE_VERSIONS, ci_values, manifests, merged, notes, one

ON: dict[str, Any] = {
    "ingress": {
        "enabled": True,
        "className": "haproxy",
        "hosts": ["llm.example.com", "chat.example.com"],
        "tls": [{"secretName": "tls", "hosts": ["llm.example.com", "chat.example.com"]}],
    }
}


@pytest.mark.parametrize("version", KUBE_VERSIONS)
def test_it_leads_every_host_to_the_public_port(version: str) -> None:
    objects = manifests(merged(ON, {"service": {"port": 8080}}))
    ingress = one(objects, "Ingress")
    check(ingress, version)
    assert [rule["host"] for rule in ingress["spec"]["rules"]] == ON["ingress"]["hosts"]
    public = one(objects, "Service", "llm-service")
    for rule in ingress["spec"]["rules"]:
        (path,) = rule["http"]["paths"]
        assert (path["path"], path["pathType"]) == ("/", "Prefix")
        backend = path["backend"]["service"]
        assert backend["name"] == public["metadata"]["name"]
        assert backend["port"]["name"] in {port["name"] for port in public["spec"]["ports"]}
    assert ingress["spec"]["tls"] == ON["ingress"]["tls"]


def test_it_has_the_annotations_of_its_controller_and_no_others() -> None:
    assert "annotations" not in one(manifests(ON), "Ingress")["metadata"]
    experts = ci_values("experts")
    annotations = one(manifests(experts), "Ingress")["metadata"]["annotations"]
    assert annotations == experts["ingress"]["annotations"]


def test_it_stands_beside_the_gateways_route() -> None:
    kinds = [each["kind"] for each in manifests(merged(ci_values("tp4"), ON))]
    assert {"Ingress", "HTTPRoute"} <= set(kinds)
    assert "Ingress" not in [each["kind"] for each in manifests(ci_values("tp4"))]


def test_what_opens_the_port_too_little_or_too_much_is_told() -> None:
    assert "ingress.enabled is true, but networkPolicy.from is empty" in notes(ON)
    assert "ingress.tls is empty" not in notes(ON)
    assert "ingress.tls is empty" in notes(merged(ON, {"ingress": {"tls": []}}))
