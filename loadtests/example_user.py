"""A user of Locust to copy: asks, waits, and reports the first token and the whole answer.

    MODEL=mine locust -f loadtests/example_user.py --headless -u 8 -t 60s --host http://x:8000

Unlike a scenario's, these users are Locust's own: -u, -r and -t apply to them.
"""

import os
import sys
from pathlib import Path
from time import perf_counter

# Locust puts the file's own folder on the path, not the one that holds the package.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from locust import User, between, task
from locust.exception import StopUser

from loadtests.drive.wire import Wire, encode
from loadtests.protocol.api import Request
from loadtests.protocol.native import Native

BODY = {"model": os.environ["MODEL"], "prompt": "The sea", "max_tokens": 32, "stream": True}


class Reader(User):  # type: ignore[misc]
    """Reads one answer after another."""

    wait_time = between(0.1, 0.5)

    def on_start(self) -> None:
        self.wire = Wire(self.host, timeout_s=60, connections=1)

    @task  # type: ignore[untyped-decorator]
    def ask(self) -> None:
        request = Request("/v1/generate", BODY, stream=True)
        headers = {"Content-Type": "application/json"}
        exchange = self.wire.exchange(request, encode(request), headers, perf_counter(), None)
        if exchange.broken == "unfinished":
            raise StopUser  # the exchange noted that this user is to end
        answer = Native().read_stream(exchange.lines)
        problem = None if answer.done else RuntimeError(exchange.detail or exchange.status)
        for name, seconds in ("first token", answer.first_event), ("answer", exchange.ended):
            if seconds is not None:
                self.environment.events.request.fire(
                    request_type="LLM", name=name, response_time=seconds * 1000,
                    response_length=0, exception=problem, context={},
                )  # fmt: skip
