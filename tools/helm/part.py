"""The base class of the models of the chart's values, and the types of their fields."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

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
    """A section of the chart's values, which refuses unknown keys."""

    model_config = ConfigDict(extra="forbid")


class Resources(Part):
    """Resource requests and limits of a container."""

    requests: dict[str, Quantity] = Field(default={})
    limits: dict[str, Quantity] = Field(default={})
