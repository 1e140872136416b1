"""Values of the pods: devices, volumes, probes, rollout."""

from typing import Annotated, Literal

from pydantic import Field

from tools.helm.part import Auto, Count, Labels, Name, Part, Port, Positive, Quantity, Share


class Gpu(Part):
    """A pod's GPUs."""

    count: Annotated[int, Field(ge=0, le=64)]
    resource: Annotated[str, Field(min_length=1)]
    runtimeClassName: Name


class MultiNode(Part):
    """Replicas over several nodes."""

    nodes: Annotated[int, Field(ge=1, le=64)]
    port: Port
    annotations: Labels


class Volumes(Part):
    """Limits of the writable folders."""

    shmSize: Quantity | Auto
    tmpSize: Quantity | Auto


class Rollout(Part):
    """Replacement of pods."""

    maxSurge: Share | Auto
    maxUnavailable: Share | Auto
    minReadySeconds: Count
    history: Count


class StartupProbe(Part):
    """Time that a start may take."""

    periodSeconds: Positive
    baseSeconds: Positive | Auto
    secondsPerGiB: Count


class Probe(Part):
    """A probe that repeats."""

    periodSeconds: Positive
    timeoutSeconds: Positive
    failureThreshold: Positive


class Probes(Part):
    """The three probes."""

    startup: StartupProbe
    liveness: Probe
    readiness: Probe


class DisruptionBudget(Part):
    """The PodDisruptionBudget."""

    enabled: bool
    maxUnavailable: Positive
    unhealthyPodEvictionPolicy: Literal["AlwaysAllow", "IfHealthyBudget"]
