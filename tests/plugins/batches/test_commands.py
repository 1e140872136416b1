"""The batches commands: over HTTP with a tenant's key, and at the folder for an operator."""

import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result

from loadtests.processes import wait_until
from service.cli.main import app
from service.plugins.batches.settings import BatchSettings
from service.settings.tree import TenantSettings
from tests.live_service import LiveService
from tests.plugins.batches.inputs import GENERATE, many
from tools.keys import bearer, entry, key_of, write_keys


def batches_command(*arguments: str, key: str | None = None) -> Result:
    environment = {"OPENAI_API_KEY": key, "COLUMNS": "200"}
    return CliRunner().invoke(app, ["batches", *arguments], env=environment)


def made(live: LiveService, tenant: str) -> str:
    form: Any = {"files": {"file": ("in", many(3))}, "data": {"purpose": "batch"}}
    file = httpx.post(f"{live.url}/v1/files", headers=bearer(tenant), **form).json()
    body = {"input_file_id": file["id"], "endpoint": GENERATE, "completion_window": "24h"}
    return str(httpx.post(f"{live.url}/v1/batches", json=body, headers=bearer(tenant)).json()["id"])


def test_a_tenant_sees_its_own_and_an_operator_sees_all(tmp_path: Path) -> None:
    keys = write_keys(tmp_path / "keys.yaml", entry("one"), entry("two"))
    folder = tmp_path / "batches"
    with LiveService(tenants=TenantSettings(keys=keys), batches=BatchSettings(path=folder)) as live:
        live.engine.frozen = True
        own, other = made(live, "one"), made(live, "two")

        def asked(*arguments: str, key: str | None = key_of("one")) -> Result:
            return batches_command(*arguments, "--url", live.url, key=key)

        listed = json.loads(asked("list", "--json").stdout)
        assert [batch["id"] for batch in listed] == [own]
        everything = json.loads(batches_command("list", "--json", "--store", str(folder)).stdout)
        assert {batch["id"]: batch["tenant"] for batch in everything} == {own: "one", other: "two"}
        assert own in asked("list").stdout
        assert json.loads(asked("show", own).stdout)["request_counts"]["completed"] == 0

        hidden = asked("show", other)
        assert hidden.exit_code == 2
        assert "404: batch_id: there is no batch" in hidden.stderr
        assert "401" in asked("list", key=None).stderr

        assert asked("cancel", own).stdout == f"{own}: cancelling\n"
        by_operator = batches_command("cancel", other, "--store", str(folder))
        assert by_operator.stdout == f"{other}: cancelling\n"
        for batch in (own, other):
            wait_until(partial(ended, folder, batch), 30, "the end of the batch")
        again = batches_command("cancel", own, "--store", str(folder))
        assert "has ended already, as cancelled" in again.stderr
        live.engine.frozen = False


def test_an_address_of_openais_form_is_asked_and_nothing_else_is_printed(tmp_path: Path) -> None:
    folder = BatchSettings(path=tmp_path / "batches")
    command = [sys.executable, "-m", "service.cli.main", "batches", "list", "--json", "--url"]
    with LiveService(batches=folder) as live:
        done = subprocess.run([*command, f"{live.url}/v1/"], capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"[]\n", b"")


def ended(folder: Path, batch: str) -> bool:
    shown = batches_command("show", batch, "--store", str(folder))
    return bool(json.loads(shown.stdout)["status"] == "cancelled")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("list", "--store", "nowhere"), "no folder of batches"),
        (("list", "--url", "http://127.0.0.1:1"), "cannot be reached"),
    ],
)
def test_what_cannot_be_asked_ends_with_one_message(
    tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    result = batches_command(*(str(tmp_path / a) if a == "nowhere" else a for a in arguments))
    assert result.exit_code == 2
    assert message in result.stderr
    assert not (tmp_path / "nowhere").exists()
