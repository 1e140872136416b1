"""The users that Locust spawns, and the shape that sets their number."""

from typing import ClassVar

import gevent
from locust import LoadTestShape, User, task
from locust.exception import StopUser

from loadtests.drive.driver import Driver
from loadtests.load.scenario import ClosedLoad

_LOOKS, _LOOK_S = 10, 0.1


class OpenLoop(User):  # type: ignore[misc]
    """The dispatcher of one process:

    sends its share of the plan, also of traces and sessions. Locust's own pacing skips the slots it
    is late for, which hides how slow a server is; a dispatcher that sleeps until absolute times
    does not.
    """

    driver: ClassVar[Driver]

    @task  # type: ignore[untyped-decorator]
    def send(self) -> None:
        if self.driver.sender is not None:
            self.driver.sender.open_loop()
        raise StopUser


class ClosedLoop(User):  # type: ignore[misc]
    """One of a fixed number of users who wait for their answers."""

    driver: ClassVar[Driver]

    @task  # type: ignore[untyped-decorator]
    def ask(self) -> None:
        if self.driver.sender is not None:
            self.driver.sender.closed_loop()
        raise StopUser


class Shape(LoadTestShape):  # type: ignore[misc]
    """Keeps the scenario's number of users until the driver ends the run."""

    driver: ClassVar[Driver]

    def tick(self) -> tuple[int, float, list[type[User]]] | None:
        # Locust asks once a second; a run should not wait for that to end.
        for _ in range(_LOOKS if self.driver.controller is not None else 0):
            if self.driver.over():
                return None
            gevent.sleep(_LOOK_S)
        load = self.driver.options().scenario.load
        if isinstance(load, ClosedLoad):
            count = max(load.users)
            return count, float(count), [ClosedLoop]
        count = max(1, getattr(self.runner, "worker_count", 1))
        return count, float(count), [OpenLoop]
