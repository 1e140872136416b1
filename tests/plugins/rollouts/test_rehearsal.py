"""Shadow and golden proof over both ports, on the fake engine."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from loadtests.processes import PATIENCE_S, wait_until
from service.plugins.rollouts.log import read_log
from tests.live_service import MODEL, LiveService
from tests.plugins.rollouts.versions import STEPS, Folders, act, ask, events, release

SHADOW = {"requests": 5, "share": 1.0}


def compared(live: LiveService, result: str = "compared") -> float:
    return live.value("inference_release_shadow_total", adapter="sentiment", result=result)


def test_an_equal_version_leaves_the_shadow_for_its_first_step(
    folders: Folders, tmp_path: Path
) -> None:
    with folders.served(tmp_path, "equal", shadow=SHADOW) as live:
        assert (release(live)["state"], release(live)["share"]) == ("shadow", 0.0)
        before = live.value("inference_tokens_total", tenant="anonymous")
        ask(live, folders)
        tokens = live.value("inference_tokens_total", tenant="anonymous") - before
        for _ in range(4):
            wait_until(
                lambda: live.idle() and compared(live) >= 1, PATIENCE_S, "the background's answer"
            )
            ask(live, folders)
        wait_until(lambda: release(live)["state"] == "canary", PATIENCE_S, "the first step")
        assert compared(live) == 5
        # What the next version was asked for nobody is the service's own.
        found = live.value("inference_tokens_total", tenant="anonymous") - before
        assert found == 5 * tokens
        assert live.outcomes() == {"ok": 5}
    assert events(tmp_path) == [
        ("configured", "configuration"),
        ("shadow", "configuration"),
        ("step", "rule:requests"),
    ]
    (*_, step) = read_log(tmp_path)[0]
    assert {each["criterion"]: each["new"] for each in step.evidence} == {
        "errors": [0, 5],
        "invalid": [0, 5],
        "abstentions": [0, 5],
        "flips": [0, 5],
        "divergence": [0, 5],
    }


def test_a_version_with_other_answers_is_rolled_back_before_any_user_meets_it(
    folders: Folders, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shadow = {"requests": 1000, "share": 1.0}
    with folders.served(tmp_path, "other", shadow=shadow) as live:
        old = ask(live, folders, "sentiment@1.0.0")
        for _ in range(100):
            assert ask(live, folders) == old
            if release(live)["state"] == "rolled_back":
                break
        assert release(live)["state"] == "rolled_back"
        # A person may try it again, from the shadow on, or do without.
        assert act(live, "retry").json()["state"] == "shadow"
        assert act(live, "promote").json()["state"] == "full"
    rolled_back = read_log(tmp_path)[0][2]
    assert rolled_back.by in ("rule:flips", "rule:divergence")
    (evidence,) = rolled_back.evidence
    assert evidence["statistic"] >= evidence["bound"]
    kept = caplog.text + (tmp_path / "changes.jsonl").read_text()
    assert json.dumps(folders.text) not in kept


def test_a_shadow_goes_on_after_a_restart_with_what_was_counted(
    folders: Folders, tmp_path: Path
) -> None:
    shadow = {"requests": 1000, "share": 1.0}
    with folders.served(tmp_path, "equal", shadow=shadow) as live:
        for _ in range(5):
            ask(live, folders)
        wait_until(
            lambda: compared(live) + compared(live, "dropped") == 5, PATIENCE_S, "the answers"
        )
        before = release(live)
    with folders.served(tmp_path, "equal", shadow=shadow) as live:
        wait_until(lambda: release(live)["golden"] is not None, PATIENCE_S, "the golden proof")
        assert release(live) == before


def test_a_server_without_room_drops_the_background(folders: Folders, tmp_path: Path) -> None:
    # One slot: while others wait for it, no answer is repeated.
    beside = {"token_seconds": 0.04, "admission": {"max_in_flight": 1}}
    shadow = {"requests": 1000, "share": 1.0, "busy_share": 1.0}
    with folders.served(tmp_path, "equal", shadow=shadow, beside=beside) as live:
        with ThreadPoolExecutor(6) as pool:
            assert len(set(pool.map(lambda _: ask(live, folders), range(12)))) == 1
        wait_until(live.idle, PATIENCE_S, "an idle engine")
        assert compared(live) + compared(live, "dropped") == 12
        assert compared(live, "dropped") >= 3
        assert release(live)["requests"]["new"] == compared(live)


def test_a_busy_engine_is_asked_a_smaller_share(folders: Folders, tmp_path: Path) -> None:
    shadow = {"requests": 1000, "share": 1.0, "busy_share": 1e-9}
    slow = {"token_seconds": 0.02}
    with folders.served(tmp_path, "equal", shadow=shadow, beside=slow) as live:
        body = {"model": MODEL, "prompt": "a", "max_tokens": 500, "stream": True}
        with httpx.stream("POST", f"{live.url}/v1/generate", json=body):
            for _ in range(5):
                ask(live, folders)
            assert live.admission.busy
        assert compared(live) + compared(live, "dropped") == 0
        wait_until(live.idle, PATIENCE_S, "an idle engine")
        ask(live, folders)
        wait_until(lambda: compared(live) == 1, PATIENCE_S, "the background's answer")


def test_a_drain_ends_the_background(folders: Folders, tmp_path: Path) -> None:
    beside = {"drain": {"lame_duck_s": PATIENCE_S, "budget_s": PATIENCE_S}}
    shadow = {"requests": 1000, "share": 1.0}
    with folders.served(tmp_path, "equal", shadow=shadow, beside=beside) as live:
        ask(live, folders)
        wait_until(lambda: compared(live) == 1, PATIENCE_S, "the background's answer")
        assert httpx.post(f"{live.ops_url}/drain").status_code == 202
        ask(live, folders)
        wait_until(live.idle, PATIENCE_S, "an idle engine")
        assert compared(live) + compared(live, "dropped") == 1


def test_a_version_whose_golden_examples_fail_later_is_rolled_back(
    folders: Folders, tmp_path: Path
) -> None:
    with folders.served(tmp_path, "equal", canary=[STEPS[0] | {"requests": 1000}]) as live:
        wait_until(lambda: release(live)["golden"] is not None, PATIENCE_S, "the golden proof")
        assert release(live)["golden"]["proven"]
        assert release(live)["golden"]["passed"] == release(live)["golden"]["total"]
        assert act(live, "rollback").status_code == 200
        _spoil(folders.root / "cache")
        assert act(live, "retry").status_code == 200
        wait_until(lambda: release(live)["state"] == "rolled_back", PATIENCE_S, "the rollback")
    (*_, last) = read_log(tmp_path)[0]
    assert last.by == "rule:golden"
    (evidence,) = last.evidence
    assert (evidence["criterion"], evidence["file"]) == ("golden", "golden.jsonl")


def _spoil(cache: Path) -> None:
    """Change the golden examples of every adapter in a cache."""
    for file in cache.rglob("golden.jsonl"):
        os.chmod(file, 0o600)
        file.write_text(file.read_text() + "\n")
