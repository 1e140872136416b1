"""Settings of releases: the next version of an adapter, and the plan by which it goes live."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, SecretStr, model_validator

from service.settings.adapters import AdapterSettings, PlannedAdapter, PluginSection
from service.settings.section import REDIS_ADDRESS, Section, ServedName

if TYPE_CHECKING:
    from service.settings.tree import Settings


class StepSettings(Section):
    """A share of requests that the next version answers until the stage is judged."""

    share: float = Field(
        gt=0, lt=1, description="Share of the callers or requests that the next version answers."
    )
    requests: int = Field(
        ge=1,
        le=10_000_000,
        description="Judged requests of each version after which the step ends if no harm was "
        "shown; earlier if harm is ruled out.",
    )


class ShadowSettings(Section):
    """A share of requests that the next version answers as well, in the background and unseen."""

    requests: int = Field(
        ge=1,
        le=10_000_000,
        description="Requests that both versions answered, after which the canary begins if no "
        "harm was shown.",
    )
    share: float = Field(
        gt=0, le=1, description="Share of the requests that the next version answers too, unseen."
    )
    busy_share: float = Field(
        0.03,
        gt=0,
        le=1,
        description="The same while other requests run, if less than `share`: these are slowed by "
        "about this share.",
    )


class ToleranceSettings(Section):
    """Largest differences from the old version, as shares of requests, that do not count as harm.

    In the shadow stage each limits the share of requests in which the versions differ in this
    respect.
    """

    errors: float = Field(
        0.01,
        ge=0,
        lt=1,
        description="Allowed rise in requests that end with an error or after the deadline.",
    )
    invalid: float = Field(
        0.02, ge=0, lt=1, description="Allowed rise in requests refused as invalid (4xx)."
    )
    wrong: float = Field(
        0.05, ge=0, lt=1, description="Allowed rise in answers that feedback calls wrong."
    )
    abstentions: float = Field(
        0.05, ge=0, lt=1, description="Allowed rise in texts that get no label."
    )
    structure: float = Field(
        0.02,
        ge=0,
        lt=1,
        description="Allowed rise in cut answers of a requested structure.",
    )
    labels: float = Field(0.1, ge=0, lt=1, description="Allowed change in texts of any one label.")
    scores: float = Field(
        0.2,
        ge=0,
        lt=1,
        description="Allowed change in the distribution of the best score.",
    )
    lengths: float = Field(
        0.2,
        ge=0,
        lt=1,
        description="Allowed change in the distribution of the answer's tokens; during `shadow`, "
        "in the share of answers twice as long less that of answers half as long.",
    )
    flips: float = Field(
        0.1, ge=0, lt=1, description="During `shadow`: allowed share of texts with another label."
    )
    divergence: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="During `shadow`: allowed mean total variation distance of the labels' "
        "probabilities.",
    )
    answers: float = Field(
        1.0,
        ge=0,
        le=1,
        description="During `shadow`: allowed share of greedy answers with other tokens; 1 allows "
        "all.",
    )
    latency: float = Field(
        0.05,
        ge=0,
        lt=1,
        description="Allowed rise in requests that miss an objective of `slo`.",
    )


class PlanSettings(Section):
    """The next version of a configured adapter, and the stages by which it replaces the old one."""

    source: str = Field(min_length=1, description="As `adapters[].source`.")
    digest: str = Field(pattern=r"^sha256:[0-9a-f]{64}$", description="Digest of its manifest.")
    sticky: Literal["tenant", "header", "request"] = Field(
        description="Keeps a caller on one version: by its `tenant`, by `header` (without it: the "
        "old version), or draws each `request` by itself.",
    )
    header: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9-]{1,64}$",
        description="Header that names a caller, for `sticky: header`.",
    )
    shadow: ShadowSettings | None = Field(
        None, description="Before the steps the next version answers requests in the background."
    )
    canary: tuple[StepSettings, ...] = Field(
        min_length=1, max_length=16, description="Steps before it answers all, each a larger share."
    )
    alpha: float = Field(
        0.05,
        gt=0,
        lt=0.5,
        description="Largest probability that a harmless version is rolled back, over all tests "
        "and steps.",
    )
    tolerances: ToleranceSettings = ToleranceSettings()
    trusted_tenants: tuple[str, ...] = Field(
        (),
        description="Tenants whose requests and feedback may roll the version back alone. Others "
        "cannot, once several tenants use the adapter.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.sticky == "header") != (self.header is not None):
            raise ValueError("header: is required with `sticky: header`, and only with that")
        shares = [step.share for step in self.canary]
        if sorted(set(shares)) != shares:
            raise ValueError(f"canary: each share must be larger than the one before, got {shares}")
        return self


class ReleaseSettings(PluginSection):
    """Releases of new adapter versions, which are judged automatically.

    They are off without `path` and `storage`.
    """

    path: Path | None = Field(
        None,
        description="Folder of the log of changes, for one replica, on a disk of this machine that "
        "survives restarts; plans need it or `storage`.",
    )
    storage: str | None = Field(
        None,
        pattern=rf"^{REDIS_ADDRESS}",
        description="Redis or Valkey for all replicas, in place of `path`: an address as "
        "`quotas.storage`.",
    )
    plans: dict[ServedName, PlanSettings] = Field(
        default_factory=dict, description="Plans by the name of a configured adapter."
    )

    @model_validator(mode="after")
    def _with_log(self) -> Self:
        if self.path is not None and self.storage is not None:
            raise ValueError("storage: only one of `path` and `storage` may be given")
        if self.plans and not self.enabled:
            raise ValueError("path: it or `storage` is required with plans")
        return self

    @property
    def enabled(self) -> bool:
        """True if there is a place for the state of releases."""
        return self.path is not None or self.storage is not None

    def check(self, settings: "Settings") -> None:
        if self.plans and settings.adapters_path is not None:
            raise ValueError("releases.plans: need `adapters`, and `adapters_path` is given")
        for name, plan in self.plans.items():
            if plan.sticky == "tenant" and settings.tenants.keys is None:
                raise ValueError(
                    f"releases.plans.{name}.sticky: `tenant` needs `tenants.keys`: without keys "
                    "every caller is the same tenant"
                )

    def planned_adapters(self) -> Mapping[str, PlannedAdapter]:
        return {
            name: PlannedAdapter(
                AdapterSettings(source=plan.source, name=name, digest=plan.digest, required=False),
                f"releases.plans.{name}",
            )
            for name, plan in self.plans.items()
        }


class FeedbackSettings(PluginSection):
    """Ratings of answers by their callers."""

    key: SecretStr | None = Field(
        None,
        min_length=32,
        description="Secret of at least 32 characters that encrypts the ids of answers; replicas "
        "with the same one take each other's feedback. Without it each replica makes its own.",
    )
    key_file: Path | None = Field(
        None,
        description="File that holds this secret, 32 to 4096 bytes without the line's end.",
    )

    adaptive_sets: bool = Field(
        False,
        description="Move an adapter's conformal level by the true labels of feedback, so that "
        "label sets keep their coverage where inputs shift. Answers depend on earlier ratings "
        "then.",
    )
    adaptive_step: float = Field(
        0.005,
        gt=0,
        le=0.1,
        description="Step of the level for each true label; larger ones follow a shift faster and "
        "vary more.",
    )

    @model_validator(mode="after")
    def _one_key(self) -> Self:
        if self.key is not None and self.key_file is not None:
            raise ValueError("key_file: only one of `key` and `key_file` may be given")
        return self
