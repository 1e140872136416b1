"""Releases over both ports, on the fake engine: what a name answers, what the log says."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry
from typer.testing import CliRunner

from loadtests.processes import PATIENCE_S, wait_until
from service.cli.main import app
from service.errors import ConfigurationError
from service.http.ops import create_ops_app
from service.plugins.rollouts.log import FILE, read_log
from service.plugins.rollouts.plugin import RolloutsPlugin
from service.settings.tree import HttpSettings, Settings
from tests.live_service import LiveService
from tests.plugins.rollouts.versions import Folders, act, ask, ask_until, events, release, version


def test_an_equal_version_goes_to_full_and_stays_after_a_restart(
    folders: Folders, tmp_path: Path
) -> None:
    with folders.served(tmp_path, "equal") as live:
        assert release(live)["state"] == "canary"
        (listed,) = httpx.get(f"{live.url}/v1/adapters").json()["data"]
        assert listed["versions"] == ["1.0.0", "1.1.0"]
        ask_until(live, folders, "full")
        assert version(live) == "1.1.0"
        assert live.registry.get_sample_value(
            "inference_release_state", {"adapter": "sentiment", "state": "full"}
        )
    written = [
        ("configured", "configuration"),
        ("step", "configuration"),
        ("step", "rule:requests"),
        ("full", "rule:requests"),
    ]
    assert events(tmp_path) == written
    with folders.served(tmp_path, "equal") as live:
        assert version(live) == "1.1.0"
        assert {ask(live, folders, f"sentiment@1.{minor}.0") for minor in (0, 1)}
    assert events(tmp_path) == written


def test_another_mix_of_labels_is_rolled_back_and_not_tried_again_until_a_person_says_so(
    folders: Folders, tmp_path: Path
) -> None:
    with folders.served(tmp_path, "other", canary=[{"share": 0.5, "requests": 1000}]) as live:
        old = ask(live, folders, "sentiment@1.0.0")
        assert ask(live, folders, "sentiment@1.2.0") != old
        ask_until(live, folders, "rolled_back")
        assert {ask(live, folders) for _ in range(20)} == {old}
        assert ask(live, folders, "sentiment@1.2.0") != old
        last = read_log(tmp_path)[0][-1]
        (evidence,) = last.evidence
        assert evidence["criterion"].startswith("label ")
        assert evidence["statistic"] >= evidence["bound"]
        assert last.by == f"rule:{evidence['criterion']}"
    with folders.served(tmp_path, "other") as live:
        assert release(live)["state"] == "rolled_back"
        assert act(live, "promote").status_code == 409
        assert act(live, "retry").json()["state"] == "canary"
        assert act(live, "promote").json()["state"] == "full"
        assert ask(live, folders) != old
        assert act(live, "rollback").json()["state"] == "rolled_back"
        assert ask(live, folders) == old
    assert [by for _, by in events(tmp_path)[-4:]] == ["person:ann"] * 4


@contextmanager
def full_disk(live: LiveService) -> Iterator[None]:
    """Have the log on a device that is full while the block runs."""
    log = live.app.state.plugins.get(RolloutsPlugin)._releases._store.log
    own, full = os.dup(log._descriptor), os.open("/dev/full", os.O_RDWR)
    os.dup2(full, log._descriptor)
    try:
        yield
    finally:
        os.dup2(own, log._descriptor)
        os.close(own)
        os.close(full)


async def test_an_order_wants_the_control_token(folders: Folders, tmp_path: Path) -> None:
    token = "a-token-of-some-length"
    with folders.served(tmp_path, "other") as live:
        http, plugins = HttpSettings(control_token=token), live.app.state.plugins
        app = create_ops_app(live.status, CollectorRegistry(), http, plugins)
        transport = httpx.ASGITransport(app, client=("10.0.0.1", 1))
        order = {"action": "rollback", "by": "ann"}
        async with httpx.AsyncClient(transport=transport, base_url="http://10.0.0.9") as client:
            for given, status in ((f"{token}x", 403), (token, 200)):
                headers = {"authorization": f"Bearer {given}"}
                answer = await client.post("/releases/sentiment", json=order, headers=headers)
                assert answer.status_code == status
                assert release(live)["state"] == ("canary" if status == 403 else "rolled_back")


@pytest.mark.parametrize("state", ["canary", "full"])
def test_a_person_rolls_back_although_the_disk_is_full(
    folders: Folders, tmp_path: Path, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.plugins.rollouts.releases.TICK_SECONDS", 0.1)
    canary = [{"share": 0.5, "requests": 1000}]
    with folders.served(tmp_path, "other", canary=canary) as live:
        old = ask(live, folders, "sentiment@1.0.0")
        if state == "full":
            assert act(live, "promote").json()["state"] == state
        before = events(tmp_path)
        with full_disk(live):
            refused = act(live, "rollback")
            assert refused.status_code == 503
            assert refused.json()["error"]["code"] == "store_unavailable"
            assert release(live)["state"] == "rolled_back"
            assert {ask(live, folders) for _ in range(20)} == {old}
            assert act(live, "retry").status_code == 503
        assert release(live)["state"] == "rolled_back"
        written = [*before, ("rolled_back", "person:ann")]
        wait_until(lambda: events(tmp_path) == written, PATIENCE_S, "the rollback in the log")
    with folders.served(tmp_path, "other", canary=canary) as live:
        assert release(live)["state"] == "rolled_back"
    assert events(tmp_path) == written


def test_a_rule_rolls_back_although_the_disk_is_full(
    folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.plugins.rollouts.releases.TICK_SECONDS", 0.1)
    canary = [{"share": 0.5, "requests": 1000}]
    with folders.served(tmp_path, "other", canary=canary) as live:
        old, before = ask(live, folders, "sentiment@1.0.0"), events(tmp_path)
        with full_disk(live):
            ask_until(live, folders, "rolled_back")
            assert {ask(live, folders) for _ in range(20)} == {old}
            assert act(live, "promote").status_code == 409
        wait_until(lambda: len(events(tmp_path)) > len(before), 10, "the rollback in the log")
        assert act(live, "retry").json()["state"] == "canary"
        # Written once, though it took effect before and many looks found it owed.
        (rolled_back, by), *later = events(tmp_path)[len(before) :]
    assert rolled_back == "rolled_back"
    assert by.startswith("rule:label ")
    assert later == [("retried", "person:ann"), ("step", "person:ann")]


def test_a_rollback_that_is_owed_is_written_at_the_end(folders: Folders, tmp_path: Path) -> None:
    with folders.served(tmp_path, "other", canary=[{"share": 0.5, "requests": 1000}]) as live:
        before = events(tmp_path)
        with full_disk(live):
            assert act(live, "rollback").status_code == 503
    assert events(tmp_path) == [*before, ("rolled_back", "person:ann")]


def test_a_step_goes_on_after_a_restart_with_what_was_counted(
    folders: Folders, tmp_path: Path
) -> None:
    with folders.served(tmp_path, "equal", canary=[{"share": 0.5, "requests": 1000}]) as live:
        for _ in range(30):
            ask(live, folders)
        before = release(live)
    assert before["requests"]["old"] + before["requests"]["new"] == 30
    # The golden examples are asked again meanwhile, whenever there is room.
    del before["golden"]
    with folders.served(tmp_path, "equal", canary=[{"share": 0.5, "requests": 1000}]) as live:
        assert before.items() <= release(live).items()


def test_a_caller_stays_with_itsversion(folders: Folders, tmp_path: Path) -> None:
    plan = {
        "sticky": "header",
        "header": "X-User-Id",
        "tolerances": {"labels": 0.99, "scores": 0.99},
    }
    with folders.served(
        tmp_path, "other", canary=[{"share": 0.5, "requests": 1000}], **plan
    ) as live:
        old = ask(live, folders, "sentiment@1.0.0")
        labels = [{ask(live, folders, **{"x-user-id": f"u{user}"}) for _ in range(2)}
                  for user in range(12)]  # fmt: skip
        assert all(len(given) == 1 for given in labels)
        assert len(set().union(*labels)) == 2
        assert {ask(live, folders) for _ in range(10)} == {old}


@pytest.mark.parametrize("planned", ["unproven", "same-version"])
def test_a_version_that_cannot_be_released_is_refused_and_the_rest_serves(
    folders: Folders, tmp_path: Path, planned: str, caplog: pytest.LogCaptureFixture
) -> None:
    with folders.served(tmp_path, planned) as live:
        assert release(live)["state"] == "refused"
        assert version(live) == "1.0.0"
        assert ask(live, folders)
    assert "release of sentiment: refused: " in caplog.text
    assert events(tmp_path) == [("configured", "configuration")]


def test_a_reload_changes_the_plan(folders: Folders, tmp_path: Path) -> None:
    with folders.served(tmp_path, None) as live:
        for planned in ("equal", "other", None):
            sections = folders.sections(tmp_path, planned)
            live.settings = Settings(model=live.settings.model, **sections)
            assert httpx.post(f"{live.ops_url}/adapters/reload").status_code == 200
            assert ask(live, folders, "sentiment@1.0.0")
    assert [event for event, _ in events(tmp_path)] == [
        *("configured", "step", "withdrawn", "step", "withdrawn"),
    ]


def test_a_log_that_was_changed_ends_the_start(folders: Folders, tmp_path: Path) -> None:
    with folders.served(tmp_path, "equal"):
        pass
    listed = CliRunner().invoke(app, ["releases", "list", "--store", str(tmp_path)])
    assert "configured" in listed.output
    verified = CliRunner().invoke(app, ["releases", "verify", "--store", str(tmp_path)])
    assert verified.output.startswith("2 changes, unbroken")
    file = tmp_path / FILE
    file.write_text(file.read_text().replace("configuration", "nobody", 1))
    with pytest.raises(ConfigurationError, match="line 2: its `previous` is not"):
        LiveService(model_path=folders.base, **folders.sections(tmp_path, "equal"))
    refused = CliRunner().invoke(app, ["releases", "verify", "--store", str(tmp_path)])
    assert refused.exit_code != 0


def test_a_sticky_tenant_without_keys_is_named(folders: Folders, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"releases\.plans\.sentiment\.sticky: `tenant` needs"):
        Settings.model_validate(
            {"model": {"name": "fake", "path": folders.base}}
            | folders.sections(tmp_path, "equal", sticky="tenant")
        )
