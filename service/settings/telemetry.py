"""Settings of telemetry: logs, series, traces and objectives."""

from typing import Literal

from pydantic import Field

from service.settings.section import Section


class LogSettings(Section):
    """Settings of the log, which never holds a prompt, a completion or a key."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Lowest level logged."
    )
    format: Literal["auto", "json", "console"] = Field(
        "auto",
        description="`json` (one line for each event), `console` (text), or `auto`: `console` if "
        "the standard error is a terminal, else `json`.",
    )
    refusals_per_s: int = Field(
        10,
        ge=0,
        description="Log lines about a tenant's refused requests in each second; `left_out` counts "
        "the others.",
    )


class MetricsSettings(Section):
    """Limits on the number of series that clients' requests can create."""

    max_tenants: int = Field(
        64, ge=1, description="Tenants with their own series; later ones count as `other`."
    )
    max_combinations: int = Field(
        256,
        ge=1,
        description="Combinations of route, model and tenant with their own series; then the "
        "tenant counts as `other`.",
    )


class TracingSettings(Section):
    """OpenTelemetry traces of requests, from the HTTP request into the engine's own spans."""

    endpoint: str | None = Field(
        None,
        pattern=r"^https?://[^\s/]+$",
        description="OTLP gRPC receiver, such as `http://collector:4317`; without it nothing is "
        "traced.",
    )
    sample_ratio: float = Field(
        1.0,
        ge=0,
        le=1,
        description="Share of the traces begun here that is kept; other traces follow their "
        "caller's choice.",
    )
    service_name: str = Field("llm-service", min_length=1, description="`service.name` of spans.")


class ObjectiveSettings(Section):
    """Objectives that a request must meet to count as good; None sets no objective."""

    ttft_ms: float | None = Field(None, gt=0, description="Time to the first token, at most.")
    tpot_ms: float | None = Field(
        None, gt=0, description="Time per output token after the first, at most."
    )
    e2e_ms: float | None = Field(None, gt=0, description="Time to the whole answer, at most.")


class SloSettings(ObjectiveSettings):
    """Objectives of goodput: those of a model override its route's, and these the general ones."""

    ttft_ms: float | None = Field(2000, gt=0, description="Time to the first token, at most.")
    tpot_ms: float | None = Field(
        200, gt=0, description="Time per output token after the first, at most."
    )
    routes: dict[str, ObjectiveSettings] = Field(
        default_factory=dict, description="Objectives by route, such as `/v1/classify`."
    )
    models: dict[str, ObjectiveSettings] = Field(
        default_factory=dict, description="Objectives by served name of model or adapter."
    )
