"""Check of an object against the schemas of Kubernetes, KEDA and the Prometheus operator."""

import kubernetes_validate
from cloudcoil.models.keda.v1alpha1 import ScaledObject
from cloudcoil.models.prometheus_operator.v1 import PrometheusRule, ServiceMonitor
from pydantic import BaseModel

from tools.helm.chart import Manifest

_MODELS: dict[str, type[BaseModel]] = {
    "ScaledObject": ScaledObject,
    "ServiceMonitor": ServiceMonitor,
    "PrometheusRule": PrometheusRule,
}
# No package holds schemas of these: the first one's pods are checked, golden files hold the rest.
_WITHOUT_SCHEMA = ("LeaderWorkerSet", "InferencePool", "HTTPRoute")


def check(manifest: Manifest, version: str) -> None:
    """Raise when an object is not valid: an unknown field, a wrong type, a missing one."""
    kind = manifest["kind"]
    if model := _MODELS.get(kind):
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
