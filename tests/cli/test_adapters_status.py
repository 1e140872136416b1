"""`llm-service adapters status` against services that follow a list."""

import json
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result

from loadtests.processes import PATIENCE_S, wait_until
from service.adapters import desired
from service.cli.main import app
from service.models.base_model import ServedBase
from tests.adapters.proven import proven, served_base
from tests.live_service import LiveService

ONE, TWO = ({"name": name, "source": name} for name in ("one", "two"))


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["adapters", "status", *map(str, arguments)])


@pytest.fixture
def served(base_folder: Path) -> ServedBase:
    return served_base(base_folder)


@pytest.fixture
async def pair(
    tmp_path: Path, base_folder: Path, served: ServedBase, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[list[LiveService]]:
    """Two services that follow a list with one adapter."""
    monkeypatch.setattr(desired, "LOOK_SECONDS", 0.02)
    await proven(tmp_path / "one", served, name="one")
    await proven(tmp_path / "two", served, name="two", seed=1)
    _write(tmp_path, ONE)
    with ExitStack() as stack:
        sections: dict[str, Any] = {
            "adapters_path": tmp_path / "adapters.yaml",
            "adapter_cache": {"path": tmp_path / "cache"},
        }
        yield [
            stack.enter_context(LiveService(model_path=base_folder, **sections)) for _ in range(2)
        ]


def _write(folder: Path, *adapters: dict[str, str]) -> None:
    (folder / "adapters.yaml").write_text(json.dumps({"adapters": adapters}))


def _at(pair: list[LiveService]) -> list[str]:
    return [word for each in pair for word in ("--at", each.ops_url)]


def test_it_waits_until_every_replica_serves_what_the_list_says(
    pair: list[LiveService], tmp_path: Path
) -> None:
    listed = ("--list", tmp_path / "adapters.yaml")
    _write(tmp_path, ONE, TWO)
    shown = run(*_at(pair), *listed, "--wait", PATIENCE_S)
    assert shown.exit_code == 0, shown.output
    header, *rows = shown.stdout.splitlines()
    assert all(each.ops_url.removeprefix("http://") in shown.stdout for each in pair)
    assert sum(line.count("serving 1.0.0") for line in [header, *rows]) == 4
    told = json.loads(run(*_at(pair), "--json").stdout)
    assert told["converged"]
    assert [len(each["adapters"]) for each in told["replicas"]] == [2, 2]
    (tmp_path / "other").mkdir()
    _write(tmp_path / "other", ONE)
    behind = run(*_at(pair), "--list", tmp_path / "other" / "adapters.yaml")
    assert behind.exit_code == 1
    assert behind.stderr.count("has not read the list yet") == 2


def test_it_names_what_fails_and_who_does_not_answer(
    pair: list[LiveService], tmp_path: Path
) -> None:
    _write(tmp_path, ONE | {"digest": "sha256:" + "0" * 64})
    wait_until(lambda: run(*_at(pair)).stderr.count("one failed") == 2, PATIENCE_S, "failures")
    failed = run(*_at(pair), "--at", "http://127.0.0.1:1")
    assert failed.exit_code == 1
    assert "is not the pinned one" in failed.stderr
    assert "http://127.0.0.1:1: cannot be reached" in failed.stderr
    (tmp_path / "adapters.yaml").write_text("adapters: 1")
    wait_until(lambda: run(*_at(pair)).stderr.count("list refused") == 2, PATIENCE_S, "refusals")


def test_a_name_stands_for_all_of_its_addresses(pair: list[LiveService]) -> None:
    port = httpx.URL(pair[0].ops_url).port
    shown = json.loads(run("--fleet", "--at", f"http://localhost:{port}", "--json").stdout)
    # It may have an IPv6 address, too, at which nobody answers.
    assert pair[0].ops_url in [each["address"] for each in shown["replicas"]]


@pytest.mark.parametrize("address", ["host:8001", "http://", "http://no-such-host.invalid:1"])
def test_an_address_that_cannot_be_used_is_named(address: str) -> None:
    refused = run("--fleet", "--at", address)
    assert refused.exit_code == 2
    assert address in refused.stderr
