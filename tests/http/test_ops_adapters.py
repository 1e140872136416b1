"""The admin port's routes to the adapters that should be served."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from loadtests.processes import PATIENCE_S, wait_until
from tests.adapters.proven import proven, served_base
from tests.answers import error_of
from tests.live_service import LiveService


@pytest.fixture
async def folder(tmp_path: Path, base_folder: Path) -> Path:
    """A folder of two adapters."""
    base = served_base(base_folder)
    await proven(tmp_path / "one", base, name="one")
    await proven(tmp_path / "two", base, name="two", version="2.0.0", seed=1)
    return tmp_path


def _report(live: LiveService) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{live.ops_url}/adapters").raise_for_status().json()
    return found


def _state(live: LiveService) -> dict[str, Any]:
    (state,) = _report(live)["adapters"]
    found: dict[str, Any] = state
    return found


def _converged(live: LiveService, *names: str) -> None:
    def holds() -> bool:
        report = _report(live)
        return report["converged"] and [each["name"] for each in report["adapters"]] == [*names]

    wait_until(holds, PATIENCE_S, "convergence")


def _listed(live: LiveService) -> list[str]:
    models = httpx.get(f"{live.url}/v1/models").json()["data"]
    return [each["id"] for each in models if each["parent"]]


def test_adapters_are_added_replaced_and_retired(folder: Path, base_folder: Path) -> None:
    list_ = folder / "adapters.yaml"
    list_.write_text("adapters: [] # none yet")
    sections: dict[str, Any] = {"adapters_path": list_, "adapter_cache": {"path": folder / "cache"}}
    with LiveService(model_path=base_folder, **sections) as live:
        added = httpx.put(f"{live.ops_url}/adapters/team/one", json={"source": "one"})
        assert (added.status_code, added.json()["name"]) == (202, "team/one")
        _converged(live, "team/one")
        assert _listed(live) == ["team/one"]
        first = _state(live)["digest"]
        httpx.put(f"{live.ops_url}/adapters/team/one", json={"source": "two"}).raise_for_status()
        wait_until(lambda: _state(live)["digest"] != first, PATIENCE_S, "the new")
        _converged(live, "team/one")
        assert _state(live)["version"] == "2.0.0"
        # The cache still has the first one, so its digest brings it back.
        pinned = {"source": "two", "digest": first}
        httpx.put(f"{live.ops_url}/adapters/team/one", json=pinned).raise_for_status()
        wait_until(lambda: _state(live)["digest"] == first, PATIENCE_S, "the old")
        _converged(live, "team/one")
        pinned = {"source": "two", "digest": "sha256:" + "0" * 64}
        httpx.put(f"{live.ops_url}/adapters/team/one", json=pinned).raise_for_status()
        wait_until(lambda: _state(live)["state"] == "failed", PATIENCE_S, "the refusal")
        assert _state(live)["digest"] == first
        assert _listed(live) == ["team/one"]
        gone = httpx.delete(f"{live.ops_url}/adapters/team/one")
        assert gone.status_code == 202
        _converged(live)
        assert _listed(live) == []
        assert httpx.delete(f"{live.ops_url}/adapters/team/one").status_code == 404
    assert list_.read_text() == "adapters: []\n"


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("one", {"source": ""}, "source"),
        ("one", {"source": "one", "digest": "1"}, "digest"),
        ("@", {"source": "one"}, "name"),
    ],
)
def test_an_entry_that_is_not_valid_is_refused(
    tmp_path: Path, base_folder: Path, path: str, body: dict[str, str], message: str
) -> None:
    (tmp_path / "adapters.yaml").write_text("adapters: []")
    with LiveService(model_path=base_folder, adapters_path=tmp_path / "adapters.yaml") as live:
        refused = httpx.put(f"{live.ops_url}/adapters/{path}", json=body)
    assert refused.status_code == 400
    assert message in error_of(refused.json())["message"]
    assert (tmp_path / "adapters.yaml").read_text() == "adapters: []"


def test_without_a_list_they_are_shown_and_not_changed(folder: Path, base_folder: Path) -> None:
    broken = {"source": str(folder / "nowhere"), "required": False}
    sections: dict[str, Any] = {
        "adapters": [{"source": str(folder / "one")}, broken],
        "adapter_cache": {"path": folder / "cache"},
    }
    with LiveService(model_path=base_folder, **sections) as live:
        report = _report(live)
        refused = httpx.put(f"{live.ops_url}/adapters/two", json={"source": "two"})
    assert {each["name"]: each["state"] for each in report["adapters"]} == {
        "one": "serving",
        "nowhere": "failed",
    }
    assert not report["converged"]
    assert refused.status_code == 409
    assert "adapters_path is not set" in error_of(refused.json())["message"]


def test_a_service_of_encoders_alone_says_that_it_has_none() -> None:
    with LiveService(model=None, encoders=[{"name": "embed", "path": "unused"}]) as live:
        answers = [
            httpx.get(f"{live.ops_url}/adapters"),
            httpx.put(f"{live.ops_url}/adapters/one", json={"source": "one"}),
        ]
    for answer in answers:
        assert answer.status_code == 404
        assert "no language model" in error_of(answer.json())["message"]
