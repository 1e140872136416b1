"""Service level objectives: limits of a request, and the share of requests within them."""

from importlib.resources import files
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, ValidationError

from loadtests.analysis.latency import lag, tpot, ttft
from loadtests.load.problems import problems
from loadtests.load.scenario import ScenarioError
from loadtests.protocol.record import Record


class Limits(BaseModel):
    """Upper limits of a request, in milliseconds; all but TPOT count from the planned send."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ttft_ms: PositiveFloat | None = None
    tpot_ms: PositiveFloat | None = None
    e2e_ms: PositiveFloat | None = None
    classify_ms: PositiveFloat | None = None
    embed_ms: PositiveFloat | None = None


class Objectives(BaseModel):
    """Limits, and the least share of the offered requests (`goodput`) that must be within them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    source: str = ""
    goodput: float = Field(gt=0, le=1)
    limits: Limits

    def met(self, record: Record) -> bool:
        """True if the request succeeded within every limit."""
        if not record.ok or record.e2e is None:
            return False
        late = lag(record)
        if record.task == "classify":
            return _within(record.e2e + late, self.limits.classify_ms)
        if record.task == "embed":
            return _within(record.e2e + late, self.limits.embed_ms)
        first = ttft(record)
        return (
            _within(None if first is None else first + late, self.limits.ttft_ms)
            and _within(tpot(record), self.limits.tpot_ms)
            and _within(record.e2e + late, self.limits.e2e_ms)
        )


def load_objectives(name_or_path: str) -> Objectives:
    """A shipped profile by name, or one from a file; raises ScenarioError."""
    path = Path(name_or_path)
    if path.suffix not in {".yaml", ".yml"}:
        folder = files("loadtests") / "slo"
        path = Path(str(folder / f"{name_or_path}.yaml"))
        if not path.is_file():
            names = sorted(file.name.removesuffix(".yaml") for file in folder.iterdir())
            raise ScenarioError(
                f"slo must be a file or one of {', '.join(names)}, got {name_or_path!r}"
            )
    try:
        return Objectives.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        raise ScenarioError(f"{path}: {problems(error)}") from error
    except (OSError, yaml.YAMLError) as error:
        raise ScenarioError(f"{path}: {error}") from error


def _within(value: float | None, limit_ms: float | None) -> bool:
    return value is None or limit_ms is None or value * 1000 <= limit_ms
