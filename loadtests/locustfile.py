"""Locust's entry: `locust -f loadtests/locustfile.py --host URL --scenario NAME`.

`python -m loadtests run` starts Locust on this file; with Locust itself you get its web UI, its
`--master` and `--worker`, and the same results.
"""

import sys
from pathlib import Path
from typing import Any

# Locust puts the file's own folder on the path, not the one that holds the package.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from locust import events
from locust.env import Environment

from loadtests.drive.driver import Driver, end_with
from loadtests.drive.options import add_options, refuse_counts
from loadtests.drive.tab import add_tab
from loadtests.drive.users import ClosedLoop, OpenLoop, Shape
from loadtests.load.scenario import ScenarioError

__all__ = ["ClosedLoop", "OpenLoop", "Shape"]

events.init_command_line_parser.add_listener(add_options)


@events.init.add_listener  # type: ignore[untyped-decorator]
def tie(environment: Environment, **_: Any) -> None:
    """Give this environment's users their driver."""
    try:
        refuse_counts(environment.parsed_options)
    except ScenarioError as error:
        end_with(error)
    driver = Driver(environment)
    OpenLoop.driver = ClosedLoop.driver = Shape.driver = driver
    if environment.web_ui:
        add_tab(environment, driver)
