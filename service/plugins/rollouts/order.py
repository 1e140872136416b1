"""Bodies of the operations port's releases."""

from pydantic import BaseModel, ConfigDict, Field

from service.plugins.rollouts.contest import Action


class ReleaseOrder(BaseModel):
    """A person's order, and the person's name, which the log keeps."""

    model_config = ConfigDict(extra="forbid")

    action: Action
    by: str = Field(pattern=r"^[\w.@ -]{1,64}$")
