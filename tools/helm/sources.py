"""Values of what is served: images, weights, adapters, keys."""

from typing import Annotated, Literal

from pydantic import Field

from service.settings.adapters import ListedAdapter
from tools.helm.part import (
    AccessMode,
    Auto,
    Count,
    Digest,
    Name,
    Part,
    Positive,
    PullPolicy,
    Quantity,
    Resources,
)


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
    resources: Resources


class Model(Part):
    """The source of the weights."""

    source: Literal["", "package", "hub", "objectStore", "volume", "image", "baked"]
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


class ReplicaStorage(Part):
    """A claim of each replica's own."""

    size: Quantity
    storageClass: Name


class Storages(Part):
    """The pods' folders for models, adapters, compiled kernels and the state of rollouts."""

    models: ModelStorage
    adapters: Storage
    compiled: Storage
    releases: ReplicaStorage
    adapterImages: list[AdapterImage]


class AdapterList(Part):
    """The adapters in a ConfigMap of their own."""

    enabled: bool
    adapters: list[ListedAdapter]
    existingConfigMap: Name
    startSeconds: Count
    mountPath: Annotated[str, Field(pattern=r"^/.+")]


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
