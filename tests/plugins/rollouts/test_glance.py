"""Releases in the overview: the running stage's tests, and those that ended it."""

import asyncio
import json
from pathlib import Path
from typing import Any

from loadtests.processes import PATIENCE_S
from service.plugins.rollouts.plugin import RolloutsPlugin
from service.plugins.rollouts.summary import SHOWN_TESTS
from tests.live_service import LiveService
from tests.plugins.rollouts.versions import Folders, ask, ask_until, release


def shown(live: LiveService) -> dict[str, Any]:
    overview, loop = live.app.state.plugins.get(RolloutsPlugin).overview(), live.status.loop
    assert loop is not None
    found = asyncio.run_coroutine_threadsafe(overview, loop).result(PATIENCE_S)
    (release,) = json.loads(json.dumps(found))["releases"]
    return dict(release)


def test_a_running_stage_shows_the_tests_nearest_to_their_bound(
    folders: Folders, tmp_path: Path
) -> None:
    with folders.served(tmp_path, "equal", canary=[{"share": 0.5, "requests": 1000}]) as live:
        for _ in range(10):
            ask(live, folders)
        row, whole = shown(live), release(live)
    assert row["state"] == "canary"
    assert row["versions"] == {"old": "sentiment@1.0.0", "new": "sentiment@1.1.0"}
    assert sum(row["requests"][arm] for arm in ("old", "new")) == 10
    assert len(row["tests"]) == SHOWN_TESTS
    assert row["more"] == len(whole["tests"]) - SHOWN_TESTS
    nearness = sorted((each["statistic"] / each["bound"] for each in whole["tests"]), reverse=True)
    assert [each["statistic"] / each["bound"] for each in row["tests"]] == nearness[:SHOWN_TESTS]
    for each in row["tests"]:
        assert (
            each.items()
            <= next(
                test for test in whole["tests"] if test["criterion"] == each["criterion"]
            ).items()
        )


def test_a_release_that_ended_shows_what_ended_it(folders: Folders, tmp_path: Path) -> None:
    with folders.served(tmp_path, "other", canary=[{"share": 0.5, "requests": 1000}]) as live:
        ask_until(live, folders, "rolled_back")
        row = shown(live)
    assert row["state"] == "rolled_back"
    (test,) = row["tests"]
    assert row["changed"]["by"] == f"rule:{test['criterion']}"
    assert test["statistic"] >= test["bound"]


def test_a_test_of_pairs_has_no_hits_of_the_old_version(folders: Folders, tmp_path: Path) -> None:
    shadow = {"requests": 1000, "share": 1.0}
    with folders.served(tmp_path, "equal", shadow=shadow) as live:
        ask(live, folders)
        row = shown(live)
    assert row["state"] == "shadow"
    assert all(test["old"] is None for test in row["tests"])
