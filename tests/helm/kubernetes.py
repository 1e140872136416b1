"""Check of an object against the schemas of Kubernetes and the models of other kinds."""

from functools import cache

import kubernetes_validate
from kubernetes_validate import utils
from pydantic import BaseModel

from tests.helm.custom_kinds import HTTPRoute, InferencePool, LeaderWorkerSet
from tools.helm.chart import Manifest

# The library would read a megabyte of definitions for each object.
utils.schema_contents = cache(utils.schema_contents)


@cache
def _models() -> dict[str, type[BaseModel]]:
    """The models by kind; those of two operators take two seconds to import."""
    from cloudcoil.models.keda.v1alpha1 import ScaledObject
    from cloudcoil.models.prometheus_operator.v1 import PrometheusRule, ServiceMonitor

    operators = (ScaledObject, ServiceMonitor, PrometheusRule)
    return {each.__name__: each for each in (*operators, HTTPRoute, InferencePool, LeaderWorkerSet)}


def check(manifest: Manifest, version: str) -> None:
    """Raise when an object is not valid: an unknown field, a wrong type, a missing one."""
    kind = manifest["kind"]
    if model := _models().get(kind):
        known = _known_to_models(manifest) if kind == "ScaledObject" else manifest
        model.model_validate(known, extra="forbid")
        for template in _templates(manifest):
            wrapped = {"apiVersion": "v1", "kind": "PodTemplate", "template": template}
            kubernetes_validate.validate(
                wrapped | {"metadata": {"name": "template"}}, version, strict=True
            )
    else:
        kubernetes_validate.validate(manifest, version, strict=True)


def _templates(manifest: Manifest) -> list[Manifest]:
    group = manifest["spec"].get("leaderWorkerTemplate", {})
    return [group[name] for name in ("leaderTemplate", "workerTemplate") if name in group]


def _known_to_models(scaled: Manifest) -> Manifest:
    """A ScaledObject without a field of KEDA 2.17: Python 3.11 has the models of 2.16 alone."""
    fallback = dict(scaled["spec"]["fallback"])
    if fallback.pop("behavior") != "currentReplicasIfHigher":
        raise ValueError("spec.fallback.behavior")
    return scaled | {"spec": scaled["spec"] | {"fallback": fallback}}
