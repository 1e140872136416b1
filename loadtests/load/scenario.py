"""A scenario: one YAML file with the traffic, its timing and the objectives of a run."""

from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)

from loadtests.load.arrivals import Arrivals
from loadtests.load.background import Background, Neighbour
from loadtests.load.choice import Adapters, Tenant
from loadtests.load.problems import problems
from loadtests.load.stage import ALONE, BESIDE, WARMUP, Stage, row
from loadtests.load.traces import Format
from loadtests.load.workloads import AnyWorkload


class ScenarioError(ValueError):
    """A scenario cannot be used; the message names the file, the field and the value."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class OpenLoad(_Model):
    """Requests arrive at planned instants, however slow the server is.

    Each of `steps` is a stage of `step_s` seconds at that multiple of the arrivals' rate. Requests
    of the first `warmup_s` seconds, sent at the first step's rate, are logged but not measured.
    """

    kind: Literal["open"] = "open"
    arrivals: Arrivals
    steps: tuple[PositiveFloat, ...] = Field(default=(1.0,), min_length=1)
    step_s: PositiveFloat
    warmup_s: NonNegativeFloat = 0.0


class ClosedLoad(_Model):
    """A fixed number of users, each of whom waits for its answer before it asks again.

    With `requests` each user sends that many, and the run ends with the last answer; `step_s` then
    limits the time in which requests are sent.
    """

    kind: Literal["closed"] = "closed"
    users: tuple[PositiveInt, ...] = Field(min_length=1)
    step_s: PositiveFloat
    think_s: NonNegativeFloat = 0.0
    requests: PositiveInt | None = None

    @model_validator(mode="after")
    def _of_one_step(self) -> Self:
        if self.requests and len(self.users) > 1:
            raise ValueError(f"requests: users must be one number then, got {list(self.users)}")
        return self


class ReplayLoad(_Model):
    """The arrivals and lengths of a published trace, `speed` times as fast."""

    kind: Literal["replay"] = "replay"
    path: Path
    format: Format
    limit: PositiveInt | None = None
    duration_s: PositiveFloat
    speed: PositiveFloat = 1.0
    scale: PositiveFloat = Field(default=1.0, description="Multiplies the traced token counts")


Load = Annotated[OpenLoad | ClosedLoad | ReplayLoad, Field(discriminator="kind")]

# Outcomes that a scenario may tolerate: they miss the objectives but are not failures.
Tolerable = Literal["refused", "unreachable", "deadline"]


class ValidityLimits(_Model):
    """Limits beyond which a run is invalid, because it measured the load generator."""

    send_lag_p50_ms: PositiveFloat = 5.0
    send_lag_p99_ms: PositiveFloat = 50.0
    worker_cpu: PositiveFloat = Field(default=0.85, description="Mean share of one core")
    achieved_ratio: PositiveFloat = Field(default=0.99, le=1)
    little_error: PositiveFloat = 0.1
    counter_error: PositiveFloat = 0.02


class Scenario(_Model):
    """Description of a run: its traffic, its duration and its objectives."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    description: str = ""
    seed: int = Field(default=0, ge=0)
    load: Load
    workloads: tuple[AnyWorkload, ...] = Field(min_length=1)
    beside: Background | None = Field(
        default=None,
        description="Background work: the load's one step is run alone, then beside this",
    )
    adapters: Adapters | None = Field(default=None, description="Without it, the base model")
    tenants: tuple[Tenant, ...] = Field(default=(Tenant(name="default"),), min_length=1)
    template: Literal["chat", "raw"] = "chat"
    tokenizer: Path | None = Field(
        default=None, description="Folder of a tokenizer.json, by which prompts' lengths are exact"
    )
    temperature: NonNegativeFloat = 0.0
    timeout_s: PositiveFloat = 120.0
    drain_s: PositiveFloat = 30.0
    max_in_flight: PositiveInt = 4096
    slo: str | None = Field(default=None, description="A shipped profile's name, or a file")
    tolerate: tuple[Tolerable, ...] = ()
    max_failure_ratio: NonNegativeFloat = 0.0
    releases: dict[str, Literal["full", "rolled_back"]] = Field(
        default={}, description="States that releases of the server must have at the end, by name"
    )
    disturb_at_s: PositiveFloat | None = Field(
        default=None, description="When `--disturb COMMAND` is run, seconds from the start"
    )
    validity: ValidityLimits = ValidityLimits()

    @field_validator("tokenizer")
    @classmethod
    def _found(cls, folder: Path | None) -> Path | None:
        if folder is not None and not (folder / "tokenizer.json").is_file():
            raise ValueError(f"tokenizer must be a folder with a tokenizer.json, got {folder}")
        return folder

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        beside = (self.beside,) if self.beside else ()
        for field, names in (
            ("workloads", [each.label for each in (*self.workloads, *beside)]),
            ("tenants", [tenant.name for tenant in self.callers]),
        ):
            if len(set(names)) < len(names):
                raise ValueError(f"{field} must have distinct names, got {', '.join(names)}")
        steps: tuple[float, ...] = ()
        if isinstance(self.load, OpenLoad):
            steps = self.load.steps
        elif isinstance(self.load, ClosedLoad):
            steps = self.load.users
        if len(set(steps)) < len(steps):
            raise ValueError(f"steps (or users) must be distinct, got {list(steps)}")
        if self.beside and not (isinstance(self.load, OpenLoad) and len(steps) == 1):
            raise ValueError(
                f"beside: the load must be open and have one step, got {self.load.kind} load of "
                f"{len(steps)}"
            )
        return self

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages in order, the warm-up first."""
        match self.load:
            case OpenLoad(steps=steps, step_s=step_s, warmup_s=warmup_s):
                names = {f"x{step:g}": step for step in steps}
                if self.beside:
                    names = dict.fromkeys((ALONE, BESIDE), steps[0])
                measured = [(name, step_s, step) for name, step in names.items()]
                return row([(WARMUP, warmup_s, steps[0]), *measured])
            case ClosedLoad(users=users, step_s=step_s):
                return row([(f"{count} users", step_s, 1.0) for count in users])
            case ReplayLoad(duration_s=duration_s):
                return row([("replay", duration_s, 1.0)])

    @property
    def callers(self) -> tuple[Tenant, ...]:
        """The load's tenants, plus the neighbour if there is one."""
        if isinstance(self.beside, Neighbour):
            return (*self.tenants, self.beside.tenant)
        return self.tenants

    @property
    def duration_s(self) -> float:
        """Time during which requests are sent, in seconds."""
        return self.stages[-1].end

    def in_background(self, workload: str) -> bool:
        """True for the label of the background work, which is no part of the load."""
        return self.beside is not None and self.beside.label == workload


def load_scenario(name_or_path: str, overrides: tuple[str, ...] = ()) -> Scenario:
    """A shipped scenario by name, or one from a file; `overrides` are `dotted.path=YAML` each.

    Raises ScenarioError.
    """
    path = Path(name_or_path)
    if path.suffix not in {".yaml", ".yml", ".json"}:
        path = Path(str(files("loadtests") / "scenarios" / f"{name_or_path}.yaml"))
        if not path.is_file():
            raise ScenarioError(
                f"scenario must be a file or one of {', '.join(scenario_names())}, "
                f"got {name_or_path!r}"
            )
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ScenarioError(f"{path}: cannot be read: {error}") from error
    for override in overrides:
        _apply(tree, override)
    try:
        return Scenario.model_validate(tree)
    except ValidationError as error:
        raise ScenarioError(f"{path}: {problems(error)}") from error


def scenario_names() -> list[str]:
    """The shipped scenarios."""
    folder = files("loadtests") / "scenarios"
    return sorted(file.name.removesuffix(".yaml") for file in folder.iterdir())


def _apply(tree: Any, override: str) -> None:
    path, equals, text = override.partition("=")
    if not equals:
        raise ScenarioError(f"an override must be dotted.path=value, got {override!r}")
    *parents, last = path.split(".")
    try:
        for key in parents:
            tree = tree[int(key)] if isinstance(tree, list) else tree.setdefault(key, {})
        tree[int(last) if isinstance(tree, list) else last] = yaml.safe_load(text)
    except (ValueError, IndexError, TypeError, AttributeError) as error:
        raise ScenarioError(f"an override must name a field, got {override!r}") from error
