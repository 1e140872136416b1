"""Values of services, routes, policies and monitoring."""

from typing import Annotated, Literal

from pydantic import Field, WithJsonSchema

from tools.helm.crds import json_schema
from tools.helm.part import Labels, Name, Object, Part, Port

_ROUTE = json_schema("gateway.networking.k8s.io/v1", "HTTPRoute")["properties"]["spec"]


class Service(Part):
    """The public Service."""

    type: Literal["ClusterIP", "NodePort", "LoadBalancer"]
    port: Port
    annotations: Labels
    loadBalancerClass: Annotated[str, Field(pattern=r"^([a-z0-9][a-z0-9./-]*)?$")]
    loadBalancerSourceRanges: list[Annotated[str, Field(pattern=r"^[0-9A-Fa-f:.]+/[0-9]{1,3}$")]]


class OpsService(Part):
    """The Service of the admin port."""

    annotations: Labels


class ServiceAccount(Part):
    """The pods' account."""

    create: bool
    name: Name
    annotations: Labels


class NetworkPolicy(Part):
    """Traffic that is let in and out."""

    enabled: bool
    from_: Annotated[list[Object], Field(alias="from")]
    prometheus: list[Object]
    opsFrom: list[Object]
    https: bool
    egress: list[Object]


class ServiceMonitor(Part):
    """The ServiceMonitor."""

    enabled: bool
    interval: Annotated[str, Field(pattern=r"^\d+(ms|s|m)$")]
    labels: Labels


class Labelled(Part):
    """An object to create, with labels."""

    enabled: bool
    labels: Labels


class Alert(Part):
    """What differs from an alert of deploy/prometheus."""

    enabled: bool = True
    severity: str | None = Field(None, pattern=r"^[\w-]+$")
    for_: str | None = Field(None, alias="for", pattern=r"^(\d+(ms|[smhdwy]))+$")
    threshold: float | None = Field(None, ge=0)


class PrometheusRule(Labelled):
    """The PrometheusRule."""

    runbooksUrl: Annotated[str, Field(pattern=r"^(https?://\S+)?$")]
    job: Annotated[str, Field(pattern=r"^[\w./-]*$")]
    alerts: dict[str, Alert]


class Monitoring(Part):
    """Objects for the Prometheus operator and Grafana."""

    serviceMonitor: ServiceMonitor
    prometheusRule: PrometheusRule
    dashboards: Labelled


class HttpRoute(Part):
    """The HTTPRoute."""

    enabled: bool
    parentRefs: Annotated[list[Object], WithJsonSchema(_ROUTE["properties"]["parentRefs"])]
    hostnames: Annotated[list[str], WithJsonSchema(_ROUTE["properties"]["hostnames"])]


class Ingress(Part):
    """The Ingress."""

    enabled: bool
    className: Name
    hosts: list[Annotated[str, Field(min_length=1)]]
    tls: list[Object]
    annotations: Labels


class EndpointPicker(Part):
    """The InferencePool's endpoint picker."""

    name: Name
    port: Port
    failureMode: Literal["FailOpen", "FailClose"]


class InferencePool(Part):
    """The InferencePool."""

    enabled: bool
    existingName: Name
    passthrough: bool
    endpointPicker: EndpointPicker
