"""The run in Locust: handles Locust's events, collects records and sets the exit code."""

import logging
import sys
from time import perf_counter, time
from typing import Any, NoReturn

import gevent
from locust.env import Environment
from locust.runners import MasterRunner, WorkerRunner

from loadtests.analysis.objectives import Objectives
from loadtests.analysis.run import Run
from loadtests.drive.controller import Controller
from loadtests.drive.options import Options, read_options
from loadtests.drive.sender import Sender
from loadtests.drive.wire import Wire
from loadtests.load.plan import Plan
from loadtests.load.scenario import ClosedLoad, ScenarioError
from loadtests.outputs import write_outputs
from loadtests.protocol.api import Request
from loadtests.protocol.apis import open_api
from loadtests.protocol.record import Exchange, Record
from loadtests.target import extra_headers

_LOG = logging.getLogger(__name__)

# From the start of a run to its first instant: time for every worker to hear of it.
_LEAD_LOCAL_S = 0.5
_LEAD_DISTRIBUTED_S = 2.0

# Options that the master adds to those that Locust sends to its workers.
_EPOCH = "loadtests_epoch"
_SHARES = "loadtests_shares"

# The message with which a worker ends.
_DONE = "loadtests_done"


class Driver:
    """Connects a Locust environment to our runs, which follow one after the other.

    The master (or the only process) sets the start time and each worker's share, and every worker
    computes the plan itself. Records are sent with Locust's own reports. `watched` is the run that
    the web UI shows: the running one, else the last.
    """

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self.controller: Controller | None = None
        self.sender: Sender | None = None
        self.watched: Run | None = None
        self.objectives: Objectives | None = None
        self._options: Options | None = None
        events = environment.events
        events.test_start.add_listener(self._begin)
        events.test_stop.add_listener(self._end)
        events.report_to_master.add_listener(self._report)
        events.worker_report.add_listener(self._absorb)
        if isinstance(environment.runner, MasterRunner):
            environment.runner.register_message(_DONE, self._taken_over)

    def options(self) -> Options:
        """Options of the run that is about to start; an invalid one ends the process."""
        if self._options is None:
            try:
                self._options = read_options(self.environment.parsed_options, self.environment.host)
            except ScenarioError as error:
                end_with(error)
        return self._options

    def over(self) -> bool:
        """True once the run has ended, as the process that started it sees it."""
        if self.controller is None:
            return False
        self._collect()
        return self.controller.over()

    def _begin(self, **_: Any) -> None:
        parsed = self.environment.parsed_options
        if not isinstance(self.environment.runner, WorkerRunner):
            distributed = isinstance(self.environment.runner, MasterRunner)
            epoch = time() + (_LEAD_DISTRIBUTED_S if distributed else _LEAD_LOCAL_S)
            shares = self._shares()
            setattr(parsed, _EPOCH, epoch)
            setattr(parsed, _SHARES, shares)
            parsed.model = self.options().target.model
            self.controller = Controller(self.options(), epoch, len(shares))
            self.watched, self.objectives = self.controller.run, self.options().objectives
            gevent.spawn(self._look, self.controller)
            if self.options().launch.progress:
                gevent.spawn(self._tell, self.controller)
        if not isinstance(self.environment.runner, MasterRunner):
            self._begin_sending(getattr(parsed, _EPOCH), getattr(parsed, _SHARES))

    def _begin_sending(self, epoch: float, shares: dict[str, int]) -> None:
        self._options = self._options if self.controller else None
        options = self.options()
        scenario = options.scenario
        start = perf_counter() + epoch - time()
        worker = shares[self.environment.runner.client_id]
        self.sender = Sender(
            plan=Plan(scenario, options.target.model),
            api=open_api(options.launch.api, scenario),
            wire=Wire(options.target.host, scenario.timeout_s, scenario.max_in_flight),
            headers=extra_headers(options.launch.headers),
            share=(worker, len(shares)),
            start=start,
            heard=self._heard,
            finished=self._hand_over,
        )
        if isinstance(scenario.load, ClosedLoad) and worker >= max(scenario.load.users):
            self.sender.done = True

    def _shares(self) -> dict[str, int]:
        runner = self.environment.runner
        if isinstance(runner, MasterRunner):
            ready = [client.id for client in runner.clients.ready]
            return {client: share for share, client in enumerate(sorted(ready))}
        return {runner.client_id: 0}

    def _heard(self, request: Request, record: Record, exchange: Exchange) -> None:
        """Add one entry to Locust's own table for each HTTP request, and no other."""
        failure = None if record.outcome in {"ok", "cancelled"} else record.error or record.outcome
        self.environment.events.request.fire(
            request_type="POST",
            name=f"{request.path} {record.workload}",
            response_time=exchange.ended * 1000,
            response_length=sum(len(line) for _, line in exchange.lines) + len(exchange.body),
            exception=RuntimeError(failure) if failure else None,
            context={},
        )

    def _hand_over(self) -> None:
        """Tell the master at once that this worker is done: reports go only every three seconds."""
        runner = self.environment.runner
        if isinstance(runner, WorkerRunner) and self.sender is not None:
            runner.send_message(_DONE, _part(self.sender))

    def _taken_over(self, msg: Any, **_: Any) -> None:
        if self.controller is not None:
            self.controller.absorb(msg.node_id, msg.data)

    def _report(self, client_id: str, data: dict[str, Any], **_: Any) -> None:
        if self.sender is not None:
            data["loadtests"] = _part(self.sender)

    def _absorb(self, client_id: str, data: dict[str, Any], **_: Any) -> None:
        if self.controller is not None and "loadtests" in data:
            self.controller.absorb(client_id, data["loadtests"])

    def _collect(self) -> None:
        """Hand the records over directly, in a process that is both master and worker."""
        if self.sender is not None and self.controller is not None:
            self.controller.absorb("local", _part(self.sender))

    def _end(self, **_: Any) -> None:
        if self.controller is None:
            return
        self._collect()
        controller, self.controller = self.controller, None
        options, self._options = controller.options, None
        result = write_outputs(controller.conclude(), options.objectives, options.out)
        self.environment.process_exit_code = result.verdict.exit_code

    def _look(self, controller: Controller) -> None:
        while self.controller is controller:
            controller.look()
            gevent.sleep(0.5)

    def _tell(self, controller: Controller) -> None:
        """A progress line each second on a terminal, each ten in a log."""
        terminal = sys.stderr.isatty()
        while self.controller is controller:
            gevent.sleep(1.0 if terminal else 10.0)
            if self.controller is controller:
                start, end = ("\r", "   ") if terminal else ("", "\n")
                sys.stderr.write(f"{start}{controller.progress()}{end}")
                sys.stderr.flush()


def end_with(error: ScenarioError) -> NoReturn:
    """End the process with a message and the exit code of a usage error."""
    sys.stderr.write(f"Error: {error}\n")
    sys.stderr.flush()
    sys.exit(2)


def _part(sender: Sender) -> dict[str, Any]:
    """Records that a sender has gathered since the last call; `done` is true with the last part."""
    done = sender.done
    records, sender.records = sender.records, []
    samples, sender.samples = sender.samples, []
    return {
        "records": [record.row() for record in records],
        "samples": [sample.row() for sample in samples],
        "done": done,
    }
