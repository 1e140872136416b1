"""Settings of guards: classification models that judge texts, by a name and a threshold."""

from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from service.common.error_messages import nearest
from service.settings.adapters import PluginSection
from service.settings.section import Section, ServedName

if TYPE_CHECKING:
    from service.settings.tree import Settings

GuardName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]


class GuardSettings(Section):
    """A guard: a classifier, the labels to look for, and the score that flags a text."""

    model: ServedName = Field(
        description="Name of an adapter for classification, or of an encoder with a trained head."
    )
    labels: tuple[str, ...] = Field(
        min_length=1, max_length=64, description="Labels of the model that flag a text."
    )
    threshold: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Calibrated probability from which a label flags a text; null: as `llm-service "
        "calibrate-guard` wrote it into the manifest.",
    )


class PolicySettings(Section):
    """The guards that read a tenant's requests before the model runs, and its answers."""

    input: tuple[GuardName, ...] = Field(
        (), max_length=8, description="Guards that read the texts of every generation request."
    )
    output: tuple[GuardName, ...] = Field(
        (),
        max_length=8,
        description="Guards that read every generated answer before it is sent, a stream sentence "
        "by sentence.",
    )
    on: Literal["refuse", "flag", "redact"] = Field(
        "refuse",
        description="If a guard flags a text: `refuse` (400 `input_flagged`, or the answer ends "
        "with `output_flagged`), `flag` (header `X-Guard-Flagged`), or `redact` (`[redacted]` in "
        "place of a sentence of the answer).",
    )
    on_failure: Literal["refuse", "pass"] = Field(
        "refuse",
        description="If a guard cannot read: `refuse` with 503, or `pass` the request unread. A "
        "text too long for the guard is always refused.",
    )

    @model_validator(mode="after")
    def _redacts_output(self) -> Self:
        if self.on == "redact" and not self.output:
            raise ValueError("on: redact is for answers, and output names no guard")
        return self


class GuardsSettings(PluginSection):
    """The guards, and the tenants' policies, which say what the guards read."""

    named: dict[GuardName, GuardSettings] = Field(
        default_factory=dict,
        description="Guards by name; with any, `POST /v1/moderations` is served.",
    )
    default: PolicySettings = PolicySettings()
    tenants: dict[str, PolicySettings] = Field(
        default_factory=dict,
        description="Policies by the name of a tenant, each in place of the whole `default`.",
    )

    @model_validator(mode="after")
    def _known_guards(self) -> Self:
        policies = {f"tenants.{name}": policy for name, policy in self.tenants.items()}
        for place, policy in (policies | {"default": self.default}).items():
            for side in ("input", "output"):
                for name in getattr(policy, side):
                    if name not in self.named:
                        near = nearest(name, self.named)
                        raise ValueError(f"{place}.{side}: no guard has the name {name!r}{near}")
        return self

    def check(self, settings: "Settings") -> None:
        if self.tenants and settings.tenants.keys is None:
            raise ValueError("guards.tenants: needs `tenants.keys`; set `guards.default`")
