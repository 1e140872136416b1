"""Objects of the Gateway API, its inference extension and LeaderWorkerSet that the chart makes.

No package holds schemas of these kinds. The models have the fields that the chart may write and no
others, with the limits that the CRDs state: Gateway API 1.6.1 (standard channel), inference
extension 1.6.0, LeaderWorkerSet 0.10.0.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

_PART = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_DOTTED = rf"{_PART}(\.{_PART})*"
Name = Annotated[str, Field(min_length=1, max_length=253)]
Namespace = Annotated[str, Field(max_length=63, pattern=rf"^{_PART}$")]
Group = Annotated[str, Field(max_length=253, pattern=rf"^({_DOTTED})?$")]
Kind = Annotated[str, Field(max_length=63, pattern=r"^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$")]
Hostname = Annotated[str, Field(max_length=253, pattern=rf"^(\*\.)?{_DOTTED}$")]
Section = Annotated[str, Field(max_length=253, pattern=rf"^{_DOTTED}$")]
Label = Annotated[
    str, Field(max_length=63, pattern=r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$")
]
Port = Annotated[int, Field(ge=1, le=65535)]
Duration = Annotated[str, Field(pattern=r"^([0-9]{1,5}(h|m|s|ms)){1,4}$")]
Share = Annotated[int, Field(ge=0)] | Annotated[str, Field(pattern=r"^[0-9]{1,3}%$")]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Metadata(_Part):
    name: Name
    namespace: Namespace
    labels: dict[str, Label]
    annotations: dict[str, str] = {}


class ParentRef(_Part):
    name: Name
    namespace: Namespace | None = None
    group: Group | None = None
    kind: Kind | None = None
    sectionName: Section | None = None
    port: Port | None = None


class BackendRef(_Part):
    name: Name
    group: Group = ""
    kind: Kind = "Service"
    port: Port | None = None

    @model_validator(mode="after")
    def _port_of_a_service(self) -> "BackendRef":
        if (self.group, self.kind) == ("", "Service") and self.port is None:
            raise ValueError("a Service needs a port")
        return self


class PathMatch(_Part):
    type: Literal["Exact", "PathPrefix"]
    value: Annotated[str, Field(max_length=1024, pattern=r"^/")]


class Match(_Part):
    path: PathMatch


class Timeouts(_Part):
    request: Duration


class Rule(_Part):
    matches: Annotated[list[Match], Field(min_length=1, max_length=64)]
    timeouts: Timeouts
    backendRefs: Annotated[list[BackendRef], Field(min_length=1, max_length=16)]


class RouteSpec(_Part):
    parentRefs: Annotated[list[ParentRef], Field(min_length=1, max_length=32)]
    hostnames: Annotated[list[Hostname], Field(max_length=16)] = []
    rules: Annotated[list[Rule], Field(min_length=1, max_length=16)]


class HTTPRoute(_Part):
    apiVersion: Literal["gateway.networking.k8s.io/v1"]
    kind: Literal["HTTPRoute"]
    metadata: Metadata
    spec: RouteSpec


class PoolSelector(_Part):
    matchLabels: Annotated[dict[str, Label], Field(min_length=1, max_length=64)]


class TargetPort(_Part):
    number: Port


class PickerRef(_Part):
    name: Name
    port: TargetPort
    failureMode: Literal["FailOpen", "FailClose"]


class PoolSpec(_Part):
    selector: PoolSelector
    targetPorts: Annotated[list[TargetPort], Field(min_length=1, max_length=8)]
    endpointPickerRef: PickerRef


class InferencePool(_Part):
    apiVersion: Literal["inference.networking.k8s.io/v1"]
    kind: Literal["InferencePool"]
    metadata: Metadata
    spec: PoolSpec


class RollingUpdate(_Part):
    maxSurge: Share
    maxUnavailable: Share


class RolloutStrategy(_Part):
    type: Literal["RollingUpdate"]
    rollingUpdateConfiguration: RollingUpdate


class GroupTemplate(_Part):
    size: Annotated[int, Field(ge=1)]
    restartPolicy: Literal[
        "Default", "RecreateGroupOnPodRestart", "RecreateGroupAfterStart", "None"
    ]
    leaderTemplate: dict[str, Any]
    workerTemplate: dict[str, Any]


class GroupsSpec(_Part):
    replicas: Annotated[int, Field(ge=0, le=1_000_000)] = 1
    startupPolicy: Literal["LeaderCreated", "LeaderReady"]
    rolloutStrategy: RolloutStrategy
    leaderWorkerTemplate: GroupTemplate


class LeaderWorkerSet(_Part):
    apiVersion: Literal["leaderworkerset.x-k8s.io/v1"]
    kind: Literal["LeaderWorkerSet"]
    metadata: Metadata
    spec: GroupsSpec
