"""Records of a run, and measurements of the load generator during the run."""

from dataclasses import dataclass, field

from loadtests.analysis.batch_outcome import BatchOutcome
from loadtests.analysis.counters import Counters
from loadtests.load.scenario import Scenario
from loadtests.protocol.record import Record


@dataclass(frozen=True, slots=True)
class Sample:
    """One worker over one interval that ended `at` seconds from the start."""

    worker: int
    at: float
    seconds: float
    cpu: float
    in_flight: float

    def row(self) -> list[float]:
        return [self.worker, round(self.at, 3), round(self.seconds, 4), self.cpu, self.in_flight]

    @classmethod
    def from_row(cls, row: list[float]) -> "Sample":
        worker, at, seconds, cpu, in_flight = row
        return cls(int(worker), at, seconds, cpu, in_flight)


@dataclass(frozen=True, slots=True)
class Target:
    """Server that is measured: its address, its API and its model."""

    host: str
    api: str
    model: str


@dataclass(slots=True)
class Run:
    """A finished run.

    `offered` has the number of planned arrivals by stage, and is empty in a closed loop, which has
    no plan. `stopped` is the reason if the run ended early; `doomed` is true if it ended because
    the objectives could no longer be met. `server` has the server's own counts; if they could not
    be read, `unread` is the reason. `gauges` are the server's series by name, each point with its
    seconds from the start. `releases` has the states of its releases at the end if the scenario
    expects any, `batch` the outcome of the scenario's batch.
    """

    scenario: Scenario
    target: Target
    offered: dict[str, int]
    records: list[Record] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    started_at: str = ""
    command: str = ""
    server: Counters | None = None
    unread: str = "no metrics URL was given"
    stopped: str | None = None
    doomed: bool = False
    disturbed_at: float | None = None
    gauges: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    releases: dict[str, str] = field(default_factory=dict)
    batch: BatchOutcome | None = None

    def of_load(self) -> list[Record]:
        """Records of the scenario's load, without those of the work in the background."""
        return [r for r in self.records if not self.scenario.in_background(r.workload)]

    def in_background(self) -> list[Record]:
        """Records of the work in the background."""
        return [r for r in self.records if self.scenario.in_background(r.workload)]
