"""The chart's values as types; values.schema.json is written from them.

Fields that Kubernetes itself defines are plain objects here, and the tests
check the rendered manifests against Kubernetes' own schemas.
"""

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from service.settings.tree import Settings, settings_type
from tools.helm.network import (
    HttpRoute,
    InferencePool,
    Ingress,
    Monitoring,
    NetworkPolicy,
    OpsService,
    Service,
    ServiceAccount,
)
from tools.helm.part import Auto, Count, FullName, Labels, Name, Object, Part, Positive, Resources
from tools.helm.pods import DisruptionBudget, Gpu, MultiNode, Probes, Rollout, Volumes
from tools.helm.scaling import Autoscaling, Keda
from tools.helm.sources import AdapterList, Image, Model, SecretEnv, Storages, TenantKeys

if TYPE_CHECKING:
    Configuration = Settings
else:
    Configuration = settings_type()


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
    commonLabels: Labels
    image: Image
    replicas: Count
    config: Configuration
    model: Model
    storage: Storages
    adapterList: AdapterList
    tenantKeys: TenantKeys
    secretEnv: list[SecretEnv]
    env: list[Object]
    envFrom: list[Object]
    gpu: Gpu
    multiNode: MultiNode
    resources: Resources
    volumes: Volumes
    terminationGracePeriodSeconds: Auto | Positive
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
    ingress: Ingress
    inferencePool: InferencePool
    smokeTest: SmokeTest
    loadTest: LoadTest
    podLabels: Labels
    podAnnotations: Labels
    podSecurityContext: Object
    securityContext: Object
    priorityClassName: Name
    schedulerName: Name
    hostNetwork: bool
    nodeSelector: Labels
    tolerations: list[Object]
    affinity: Object
    spread: bool
    topologySpreadConstraints: list[Object]
    extraVolumes: list[Object]
    extraVolumeMounts: list[Object]
    extraContainers: list[Object]
    extraInitContainers: list[Object]
    extraObjects: list[str | Object]
    assumeApis: list[str]
    assumeImageVolumes: bool
    global_: Annotated[Object, Field(alias="global", default_factory=dict)]
    """Helm gives it to every chart that is part of another one."""
