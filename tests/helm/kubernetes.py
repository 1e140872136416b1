"""Check of an object against the schemas of Kubernetes, KEDA and the Prometheus operator."""

from functools import cache

import kubernetes_validate
from kubernetes_validate import utils
from pydantic import BaseModel

from tools.helm.chart import Manifest

# The library would read a megabyte of definitions for each object.
utils.schema_contents = cache(utils.schema_contents)

# No package holds schemas of these: the first one's pods are checked, golden files hold the rest.
_WITHOUT_SCHEMA = ("LeaderWorkerSet", "InferencePool", "HTTPRoute")


@cache
def _models() -> dict[str, type[BaseModel]]:
    """The models of two operators' objects, whose import takes two seconds."""
    from cloudcoil.models.keda.v1alpha1 import ScaledObject
    from cloudcoil.models.prometheus_operator.v1 import PrometheusRule, ServiceMonitor

    return {each.__name__: each for each in (ScaledObject, ServiceMonitor, PrometheusRule)}


def check(manifest: Manifest, version: str) -> None:
    """Raise when an object is not valid: an unknown field, a wrong type, a missing one."""
    kind = manifest["kind"]
    if model := _models().get(kind):
        model.model_validate(manifest)
    elif kind in _WITHOUT_SCHEMA:
        for template in _templates(manifest):
            wrapped = {
                "apiVersion": "v1",
                "kind": "PodTemplate",
                "metadata": {"name": "template"},
                "template": template,
            }
            kubernetes_validate.validate(wrapped, version, strict=True)
    else:
        kubernetes_validate.validate(manifest, version, strict=True)


def _templates(manifest: Manifest) -> list[Manifest]:
    group = manifest["spec"].get("leaderWorkerTemplate", {})
    return [group[name] for name in ("leaderTemplate", "workerTemplate") if name in group]
