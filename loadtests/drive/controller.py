"""The process that starts a run, collects the workers' reports, and ends it."""

import math
import shlex
import subprocess
from datetime import UTC, datetime
from time import time
from typing import Any

from loadtests.analysis.counters import counted, read_gauges
from loadtests.analysis.live import LATEST
from loadtests.analysis.run import Run, Sample
from loadtests.batches import BatchClient
from loadtests.drive.batch import FollowedBatch
from loadtests.drive.options import Options
from loadtests.drive.spool import Spool
from loadtests.load.background import Batch
from loadtests.load.plan import Plan
from loadtests.load.scenario import ClosedLoad
from loadtests.load.stage import WARMUP
from loadtests.load.workloads import Session
from loadtests.protocol.apis import open_api
from loadtests.protocol.record import Record
from loadtests.target import extra_headers, read_metrics, read_releases, tenant_keys

# Seconds after the planned end at which silent workers are given up.
_GRACE_S = 15.0

# Least seconds between two points of the server's series, and most points of a run.
_LOOK_S, _LOOKS = 1.0, 240


class Controller:
    """A run as its master sees it;

    `epoch` is its start by the wall clock. During the run `run.records` has only the latest
    records; all of them are in a file until the end.
    """

    def __init__(self, options: Options, epoch: float, workers: int) -> None:
        self.options = options
        self.epoch = epoch
        self.workers = workers
        self.plan = Plan(options.scenario, options.target.model)
        self.run = Run(
            scenario=options.scenario,
            target=options.target,
            offered=self.plan.offered(),
            started_at=datetime.fromtimestamp(epoch, UTC).isoformat(timespec="seconds"),
            command=options.launch.said,
        )
        self._metrics, self._unread = read_metrics(options.launch.metrics_url)
        self._finished: set[str] = set()
        self._bad = self._answered = self._ok = 0
        self._spool = Spool()
        self._looked = -math.inf
        self._disturbance: subprocess.Popen[bytes] | None = None
        self._batch = self._made_batch()
        self.run.batch = self._batch.outcome if self._batch else None

    def now(self) -> float:
        """Seconds from the start of the run."""
        return time() - self.epoch

    def absorb(self, worker: str, part: dict[str, Any]) -> None:
        """Take a worker's report: `records`, `samples` and whether it is `done`."""
        records = [Record.from_row(row) for row in part["records"]]
        self._spool.add(part["records"])
        self._answered += len(records)
        self._ok += sum(record.ok for record in records)
        self.run.records = (self.run.records + records)[-LATEST:]
        self.run.samples += [Sample.from_row(row) for row in part["samples"]]
        objectives = self.options.objectives
        if objectives is not None:
            self._bad += sum(
                not objectives.met(record)
                for record in records
                if record.stage != WARMUP
                and record.outcome != "cancelled"
                and not self.options.scenario.in_background(record.workload)
            )
        if part["done"]:
            self._finished.add(worker)

    def over(self) -> bool:
        """True once the run has ended; meanwhile starts the disturbance and the batch when due."""
        scenario = self.options.scenario
        self._disturb()
        drained = self.now() > scenario.duration_s + scenario.drain_s
        answered = self._batch is None or self._batch.over or drained
        if answered and len(self._finished) >= self.workers:
            return True
        if self.options.launch.stop_when_doomed and self.doomed():
            self.run.doomed = True
            self.run.stopped = f"the SLO was lost after {self._bad} requests"
            return True
        if self.now() > scenario.duration_s + scenario.drain_s + _GRACE_S:
            missing = self.workers - len(self._finished)
            self.run.stopped = f"{missing} of {self.workers} workers did not report their end"
            return True
        return False

    def doomed(self) -> bool:
        """True if the objectives are missed even when every further request meets them.

        False if the number of requests is not known in advance: in a closed loop, and with
        sessions, in which a turn depends on the previous one.
        """
        objectives, scenario = self.options.objectives, self.options.scenario
        sessions = any(isinstance(workload, Session) for workload in scenario.workloads)
        if objectives is None or sessions or isinstance(scenario.load, ClosedLoad):
            return False
        planned = sum(n for stage, n in self.run.offered.items() if stage != WARMUP)
        return self._bad > (1 - objectives.goodput) * planned

    def conclude(self) -> Run:
        """The finished run, with the increase of the server's counters."""
        if len(self._finished) < self.workers and self.run.stopped is None:
            self.run.stopped = "the run was stopped by hand"
        if self._disturbance is not None:
            self._disturbance.poll()
        if self._batch is not None:
            self._batch.stop()
        self.run.records = self._spool.close()
        self.run.records.sort(key=lambda record: (record.due, record.index, record.turn))
        page, unread = read_metrics(self.options.launch.metrics_url)
        self.run.unread = self._unread or unread
        if not self.run.unread:
            self.run.server = counted(self._metrics, page)
            if self.run.server is None:
                self.run.unread = f"{self.options.launch.metrics_url} has no counter we know"
        if self.options.scenario.releases:
            self.run.releases = read_releases(self.options.launch.metrics_url)
        return self.run

    def look(self) -> None:
        """Read the server's gauges, if a reading is due."""
        every = max(_LOOK_S, self.options.scenario.duration_s / _LOOKS)
        if self.options.launch.metrics_url and self.now() - self._looked >= every:
            self._looked = self.now()
            for name, value in read_gauges(read_metrics(self.options.launch.metrics_url)[0]):
                self.run.gauges.setdefault(name, []).append((round(self._looked, 2), value))

    def progress(self) -> str:
        """One line on the progress of the run."""
        whole = self.options.scenario.duration_s
        return (
            f"{self.options.scenario.name}: {min(max(self.now(), 0.0), whole):.0f}/{whole:.0f} s, "
            f"{self._answered} answered, {self._ok} ok, {self._answered - self._ok} other"
        )

    def _disturb(self) -> None:
        at = self.options.scenario.disturb_at_s
        if self.options.launch.disturb and at is not None and self._disturbance is None:
            if self.now() >= at:
                self.run.disturbed_at = self.now()
                self._disturbance = subprocess.Popen(shlex.split(self.options.launch.disturb))

    def _made_batch(self) -> FollowedBatch | None:
        """The scenario's batch, of its first tenant; its lines are sent when its stage begins."""
        scenario, launch = self.options.scenario, self.options.launch
        if not isinstance(scenario.beside, Batch):
            return None
        start = scenario.stages[-1].start
        api = open_api(launch.api, scenario)
        calls = (self.plan.background_call(0, n, start) for n in range(scenario.beside.lines))
        headers = extra_headers(launch.headers)
        if key := next(iter(tenant_keys(scenario).values())):
            headers["Authorization"] = f"Bearer {key}"
        client = BatchClient(self.options.target.host, headers)
        return FollowedBatch(client, [api.request(call) for call in calls], start, self.now)
