"""Values of the number of replicas."""

from typing import Annotated

from pydantic import Field

from tools.helm.part import Count, Labels, Name, Number, Part, Positive, Quantity


class PodMetric(Part):
    """A metric of the pods and the average aimed at."""

    metric: Annotated[str, Field(min_length=1)]
    target: Quantity


class SharedMetric(Part):
    """An external metric of a queue in front of all replicas."""

    metric: str
    matchLabels: Labels


class SharedQuery(Part):
    """A query of a queue in front of all replicas."""

    query: str


class Autoscaling(Part):
    """The HorizontalPodAutoscaler."""

    enabled: bool
    minReplicas: Positive
    maxReplicas: Positive
    queued: PodMetric
    occupancy: PodMetric
    kvCache: PodMetric
    sharedQueue: SharedMetric
    scaleDownSeconds: Annotated[int, Field(ge=0, le=3600)]
    scaleUpPods: Positive


class Wake(Part):
    """Query that wakes the first replica."""

    query: str


class Fallback(Part):
    """Replicas while Prometheus is silent."""

    failures: Positive
    replicas: Count


class Keda(Part):
    """The ScaledObject."""

    enabled: bool
    minReplicas: Count
    maxReplicas: Positive
    prometheusAddress: Annotated[str, Field(pattern=r"^(https?://[^@\s]+)?$")]
    queuedTarget: Number
    occupancyTarget: Number
    kvCacheTarget: Number
    sharedQueue: SharedQuery
    wake: Wake
    pollingSeconds: Positive
    cooldownSeconds: Count
    fallback: Fallback
    authentication: Name
