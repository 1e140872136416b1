"""The chart's values as types; values.schema.json is written from them.

Fields that Kubernetes itself defines are plain objects here, and the tests
check the rendered manifests against Kubernetes' own schemas.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from service.settings.tree import Settings

Quantity = Annotated[str, Field(pattern=r"^\d+(\.\d+)?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$")]
Number = Annotated[str, Field(pattern=r"^\d+(\.\d+)?$")]
Name = Annotated[str, Field(pattern=r"^([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?)?$")]
FullName = Annotated[str, Field(pattern=r"^([a-z]([a-z0-9-]{0,50}[a-z0-9])?)?$")]
PullPolicy = Literal["Always", "IfNotPresent", "Never"]
AccessMode = Literal["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"]
Labels = dict[str, str]
Object = dict[str, Any]
Digest = Annotated[str, Field(pattern=r"^(sha256:[0-9a-f]{64})?$")]
Positive = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]
Port = Annotated[int, Field(ge=1, le=65535)]
Auto = Literal["auto"]
Share = Annotated[int, Field(ge=0)] | Annotated[str, Field(pattern=r"^\d{1,3}%$")]


class Part(BaseModel):
    """Values of which every key is known."""

    model_config = ConfigDict(extra="forbid")


class Image(Part):
    """The service's image."""

    repository: Annotated[str, Field(min_length=1)]
    tag: str
    digest: Digest
    pullPolicy: PullPolicy
    pullSecrets: list[Name]


class Hub(Part):
    """Weights on the Hugging Face Hub."""

    repository: Annotated[str, Field(pattern=r"^([\w.-]+/[\w.-]+)?$")]
    revision: Annotated[str, Field(pattern=r"^[\w./-]*$")]
    tokenSecret: Name
    tokenKey: str
    ignore: list[Annotated[str, Field(min_length=1)]]


class ObjectStore(Part):
    """Weights in an object store."""

    uri: Annotated[str, Field(pattern=r"^((s3|gs|az|https)://[^@?#\s]+)?$")]


class ModelImage(Part):
    """Weights in an OCI image."""

    reference: str
    pullPolicy: PullPolicy


class Prefetch(Part):
    """Fetching of weights."""

    job: bool
    timeoutSeconds: Positive


class Model(Part):
    """The source of the weights."""

    source: Literal["package", "hub", "objectStore", "volume", "image", "baked"]
    weightsGiB: Annotated[float, Field(gt=0, le=10_000)] | Auto
    encodersGiB: Annotated[float, Field(ge=0, le=10_000)]
    hub: Hub
    objectStore: ObjectStore
    image: ModelImage
    prefetch: Prefetch


class Storage(Part):
    """A claim or an emptyDir."""

    existingClaim: Name
    create: bool
    keep: bool
    size: Quantity
    storageClass: Name
    accessModes: Annotated[list[AccessMode], Field(min_length=1)]


class AdapterImage(Part):
    """An OCI image that holds an adapter's folder."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,40}[a-z0-9])?$")]
    reference: Annotated[str, Field(min_length=1)]
    pullPolicy: PullPolicy = "IfNotPresent"


class ModelStorage(Storage):
    """The same for models, whose size may follow from the weights'."""

    size: Quantity | Auto


class Storages(Part):
    """The pods' folders for models and adapters."""

    models: ModelStorage
    adapters: Storage
    adapterImages: list[AdapterImage]


class TenantKeys(Part):
    """The tenants' hashed keys."""

    existingSecret: Name
    files: Annotated[dict[Annotated[str, Field(pattern=r"^[\w.-]+$")], str], Field()]
    mountPath: Annotated[str, Field(pattern=r"^/.+")]


class SecretEnv(Part):
    """An environment variable out of a Secret."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
    secret: Annotated[str, Field(min_length=1)]
    key: Annotated[str, Field(min_length=1)]


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


class Resources(Part):
    """Requests and limits."""

    requests: dict[str, Quantity] = {}
    limits: dict[str, Quantity] = {}


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


class PodMetric(Part):
    """A metric of the pods and the average aimed at."""

    metric: Annotated[str, Field(min_length=1)]
    target: Quantity


class Autoscaling(Part):
    """The HorizontalPodAutoscaler."""

    enabled: bool
    minReplicas: Positive
    maxReplicas: Positive
    queued: PodMetric
    kvCache: PodMetric
    scaleDownSeconds: Annotated[int, Field(ge=0, le=3600)]
    scaleUpPods: Positive


class Wake(Part):
    """Query that wakes the first replica."""

    query: str
    target: Number


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
    kvCacheTarget: Number
    wake: Wake
    pollingSeconds: Positive
    cooldownSeconds: Count
    fallback: Fallback
    authentication: Name


class Service(Part):
    """The public Service."""

    type: Literal["ClusterIP", "NodePort", "LoadBalancer"]
    port: Port
    annotations: Labels
    loadBalancerClass: Annotated[str, Field(pattern=r"^([a-z0-9][a-z0-9./-]*)?$")]
    loadBalancerSourceRanges: list[Annotated[str, Field(pattern=r"^[0-9A-Fa-f:.]+/[0-9]{1,3}$")]]


class OpsService(Part):
    """The Service of the operations port."""

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


class PrometheusRule(Labelled):
    """The PrometheusRule."""

    runbooksUrl: Annotated[str, Field(pattern=r"^(https?://\S+)?$")]


class Monitoring(Part):
    """Objects for the Prometheus operator and Grafana."""

    serviceMonitor: ServiceMonitor
    prometheusRule: PrometheusRule
    dashboards: Labelled


class HttpRoute(Part):
    """The HTTPRoute."""

    enabled: bool
    parentRefs: list[Object]
    hostnames: list[str]


class EndpointPicker(Part):
    """The InferencePool's endpoint picker."""

    name: Name
    port: Port
    failureMode: Literal["FailOpen", "FailClose"]


class InferencePool(Part):
    """The InferencePool."""

    enabled: bool
    endpointPicker: EndpointPicker


class SmokeTest(Part):
    """The test that sends a few requests."""

    enabled: bool
    apiKeySecret: Name
    apiKeyKey: Annotated[str, Field(min_length=1)]
    nodeSelector: Labels
    tolerations: list[Object]


class LoadTest(Part):
    """The test that runs a load scenario."""

    enabled: bool
    image: str
    scenario: Annotated[str, Field(min_length=1)]
    args: list[str]
    resultsClaim: Name
    timeoutSeconds: Positive


class Values(Part):
    """Every value of the chart."""

    nameOverride: FullName
    fullnameOverride: FullName
    image: Image
    replicas: Count
    config: Settings
    model: Model
    storage: Storages
    tenantKeys: TenantKeys
    secretEnv: list[SecretEnv]
    env: list[Object]
    envFrom: list[Object]
    gpu: Gpu
    multiNode: MultiNode
    resources: Resources
    volumes: Volumes
    terminationGracePeriodSeconds: Positive
    preStopSeconds: Count
    rollout: Rollout
    probes: Probes
    podDisruptionBudget: DisruptionBudget
    autoscaling: Autoscaling
    keda: Keda
    service: Service
    opsService: OpsService
    serviceAccount: ServiceAccount
    networkPolicy: NetworkPolicy
    monitoring: Monitoring
    httpRoute: HttpRoute
    inferencePool: InferencePool
    smokeTest: SmokeTest
    loadTest: LoadTest
    podLabels: Labels
    podAnnotations: Labels
    podSecurityContext: Object
    securityContext: Object
    priorityClassName: Name
    nodeSelector: Labels
    tolerations: list[Object]
    affinity: Object
    spread: bool
    topologySpreadConstraints: list[Object]
    extraVolumes: list[Object]
    extraVolumeMounts: list[Object]
    extraObjects: list[str | Object]
    assumeApis: list[str]
    assumeImageVolumes: bool
    global_: Annotated[Object, Field(alias="global", default_factory=dict)]
    """Helm gives it to every chart that is part of another one."""
