"""Check of an object against the schemas of Kubernetes and those that other projects publish."""

from functools import cache

import kubernetes_validate
from jsonschema import Draft202012Validator, FormatChecker
from kubernetes_validate import utils

from tools.helm.chart import Manifest, pod_templates
from tools.helm.crds import json_schema, schema_file

# The library would read a megabyte of definitions for each object.
utils.schema_contents = cache(utils.schema_contents)
FORMATS = FormatChecker(["ipv4", "ipv6"])


@FORMATS.checks("int32")
def _is_int32(value: object) -> bool:
    return not isinstance(value, int) or -(2**31) <= value < 2**31


@FORMATS.checks("int64")
def _is_int64(value: object) -> bool:
    return not isinstance(value, int) or -(2**63) <= value < 2**63


def check(manifest: Manifest, version: str) -> None:
    """Raise when an object is not valid: an unknown field, a wrong type, a missing one.

    Rules in CEL are not evaluated (tests/helm/crds/README.md).
    """
    kind = (manifest["apiVersion"], manifest["kind"])
    if not schema_file(*kind).is_file():
        kubernetes_validate.validate(manifest, version, strict=True)
        return
    _validator(*kind).validate(manifest)
    # What these definitions leave to the cluster: metadata, and the pods of its own version.
    parts: list[Manifest] = [{"kind": "ConfigMap"}]
    parts += [{"kind": "PodTemplate", "template": each} for each in pod_templates([manifest])]
    for part in parts:
        whole = part | {"apiVersion": "v1", "metadata": manifest["metadata"]}
        kubernetes_validate.validate(whole, version, strict=True)


@cache
def _validator(api_version: str, kind: str) -> Draft202012Validator:
    return Draft202012Validator(json_schema(api_version, kind), format_checker=FORMATS)
