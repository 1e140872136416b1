"""The load tests' image runs a scenario against a service in another container."""

import os
import tempfile
from pathlib import Path

from loadtests.analysis.result import Exit
from loadtests.outputs import PAGE, REQUESTS, read_result
from tests.image.patience import SECONDS
from tools.podman import CONFINED, attempt, fail, say

# Not a user of the image, because the results belong to the user who runs it.
USER = 12345
LEFT = {"result.json", REQUESTS, "junit.xml", PAGE}


def run_scenario(image: str, service: str) -> None:
    """Run `smoke` by one user, in the network of the container `service`; exits where it fails.

    Afterwards its results must be in a mounted folder, and every request must be answered, however
    slow the machine is, because one user waits for each. A run that is not valid or misses the
    objectives on a busy machine does not fail; it is only reported.
    """
    with tempfile.TemporaryDirectory() as folder:
        os.chown(folder, USER, USER)
        run = attempt(
            *("run", "--rm", *CONFINED, "--user", f"{USER}:{USER}"),
            *("--network", f"container:{service}", "--volume", f"{folder}:/out", image),
            *("run", "--scenario", "smoke", "--out", "/out/smoke"),
            *("--set", "load={kind: closed, users: [1], step_s: 15}"),
            *("--set", f"timeout_s={SECONDS}", "--set", f"drain_s={SECONDS}"),
            *("--host", "http://127.0.0.1:8000"),
            *("--metrics-url", "http://127.0.0.1:8001/metrics"),
        )
        results = Path(folder) / "smoke"
        left = {path.name for path in results.glob("*")}
        if not left >= LEFT:
            fail(f"the load tests left {sorted(left)}: {run.stdout}{run.stderr}")
        result = read_result(results)
    outcomes = result.overall.outcomes
    if outcomes.keys() != {"ok"} or run.returncode in (Exit.FAILURES, 2):
        fail(f"the load tests ended with {run.returncode}, {outcomes}: {run.stdout}{run.stderr}")
    say(f"load tests: {outcomes['ok']} requests, all answered; verdict: {result.verdict.status}")
