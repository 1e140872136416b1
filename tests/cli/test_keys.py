"""The keys commands: what they print, what they write, and what they refuse without a trace."""

import errno
import json
import multiprocessing
import os
import stat
import tempfile
import threading
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from service.cli.main import app
from service.tenants.keyring import Keyring, build_keyring, read_keys
from tools.keys import sha256_of

NOW = 1_800_000_000.0


def keys_command(path: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["keys", *arguments, "--keys", str(path)])


def created(path: Path, *arguments: str) -> str:
    result = keys_command(path, "create", *arguments)
    assert result.exit_code == 0, result.output
    return result.stdout.strip()


def ring_of(path: Path) -> Keyring:
    return build_keyring(read_keys(path))


@pytest.fixture(params=["file", "folder"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param == "folder":
        (tmp_path / "keys").mkdir()
    return tmp_path / "keys"


def test_a_key_is_printed_once_and_only_its_hash_is_stored(path: Path) -> None:
    result = keys_command(path, "create", "acme")
    key = result.stdout.strip()
    assert key.startswith("sk-")
    assert len(key) == 46
    assert sha256_of(key)[:12] in result.stderr
    assert key not in result.stderr
    written = [file.read_text() for file in path.parent.rglob("*") if file.is_file()]
    assert any(sha256_of(key) in text for text in written)
    assert not any(key in text for text in written)
    tenant = ring_of(path).tenant_of(key, NOW)
    assert tenant
    assert (tenant.name, tenant.models, tenant.adapters) == ("acme", None, None)


def test_a_new_tenant_gets_the_rights_that_are_asked_for(path: Path) -> None:
    rights = ("--weight", "2.5", "--model", "base", "--adapter", "a", "--adapter", "b")
    tenant = ring_of_key(path, created(path, "acme", *rights))
    assert tenant == ("acme", 2.5, {"base"}, {"a", "b"})


def ring_of_key(path: Path, key: str) -> tuple[object, ...]:
    tenant = ring_of(path).tenant_of(key, NOW)
    assert tenant
    return tenant.name, tenant.weight, tenant.models, tenant.adapters


def test_rotation_two_live_keys_then_the_old_one_goes(path: Path) -> None:
    first, second = created(path, "acme"), created(path, "acme")
    third = keys_command(path, "create", "acme")
    assert third.exit_code == 2
    assert "'acme' may have 2 live keys, got 3" in third.stderr
    assert third.stdout == ""
    revoked = keys_command(path, "revoke", sha256_of(first)[:12])
    assert revoked.stdout == f"revoked {sha256_of(first)[:12]} of acme\n"
    ring = ring_of(path)
    assert ring.tenant_of(first, NOW) is None
    assert ring.tenant_of(second, NOW)
    created(path, "acme")


def test_an_expiry_is_stored_and_listed(path: Path) -> None:
    created(path, "acme", "--expires-days", "30")
    created(path, "beta")
    rows = json.loads(keys_command(path, "list", "--json").stdout)
    assert [row["tenant"] for row in rows] == ["acme", "beta"]
    assert [row["state"] for row in rows] == ["live", "live"]
    assert rows[0]["expires"].endswith("+00:00")
    assert rows[1]["expires"] is None
    table = keys_command(path, "list").stdout
    assert "acme" in table
    assert "beta" in table


def test_the_list_has_tenants_without_a_key_and_rights_as_lists(path: Path) -> None:
    key = created(path, "acme", "--adapter", "b", "--adapter", "a")
    created(path, "beta")
    assert keys_command(path, "revoke", sha256_of(key)[:12]).exit_code == 0

    acme, beta = json.loads(keys_command(path, "list", "--json").stdout)
    assert (acme["tenant"], acme["key"], acme["state"]) == ("acme", None, "no key")
    assert (acme["adapters"], beta["adapters"]) == (["a", "b"], "*")
    assert "a b" in keys_command(path, "list").stdout


def test_comments_and_other_tenants_stay_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    text = f"""# who pays
tenants:
  # since March
  - name: acme
    weight: 3 # gold
    models: "*"
    adapters: [sentiment]
    keys:
      - sha256: "{"ab" * 32}"
"""
    path.write_text(text)
    created(path, "acme")
    assert path.read_text().startswith(text)
    created(path, "beta")
    assert path.read_text().startswith(text)


def test_rights_of_a_tenant_that_is_there_are_not_changed_by_the_way(path: Path) -> None:
    created(path, "acme")
    before = sorted(file.read_bytes() for file in path.parent.rglob("keys*") if file.is_file())
    result = keys_command(path, "create", "acme", "--adapter", "a")
    assert result.exit_code == 2
    assert "'acme' is there already" in result.stderr
    after = sorted(file.read_bytes() for file in path.parent.rglob("keys*") if file.is_file())
    assert after == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("create", "a b"), "tenants[0].name"),
        (("create", "service"), "the service's own"),
        (("create", "x", "--weight", "0"), "tenants[0].weight"),
        (("create", "x", "--adapter", "no/../*"), "tenants[0].adapters"),
        (("revoke", "abc"), "no key has the name 'abc'"),
        (("list",), "tenants[0].wieght: unknown key"),
    ],
)
def test_what_cannot_be_used_is_named_and_nothing_is_written(
    tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    path = tmp_path / "keys.yaml"
    if arguments == ("list",):
        path.write_text("tenants: [{name: a, wieght: 1, models: [], adapters: [], keys: []}]")
    result = keys_command(path, *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stdout == ""
    assert path.exists() == (arguments == ("list",))


def test_a_list_of_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    result = keys_command(tmp_path / "kyes.yaml", "list")
    assert result.exit_code == 2
    assert "kyes.yaml: cannot be read: No such file" in result.stderr


def test_a_new_file_is_private_and_an_old_one_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    created(path, "acme")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o640)
    created(path, "acme")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


@pytest.mark.parametrize("linked", ["file", "one file of a folder", "folder"])
def test_a_link_stays_one_and_its_target_is_written(tmp_path: Path, linked: str) -> None:
    (tmp_path / "real").mkdir()
    real, keys = tmp_path / "real" / "acme.yaml", tmp_path / "keys"
    link = keys
    if linked == "one file of a folder":
        keys.mkdir()
        link = keys / "acme.yaml"
    first = created(real, "acme")
    link.symlink_to(real.parent if linked == "folder" else real)

    second = created(keys, "acme")
    assert keys_command(keys, "revoke", sha256_of(first)[:12]).exit_code == 0

    assert link.is_symlink()
    assert ring_of(real).tenant_of(first, NOW) is None
    assert ring_of(real).tenant_of(second, NOW)


as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")


@as_root
def test_an_old_file_keeps_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    key = created(path, "acme")
    os.chown(path, 65534, 65533)
    assert keys_command(path, "revoke", sha256_of(key)[:12]).exit_code == 0
    written = path.stat()
    assert (written.st_uid, written.st_gid) == (65534, 65533)
    assert stat.S_IMODE(written.st_mode) == 0o600


@as_root
def test_a_file_whose_owner_cannot_be_kept_is_left_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "keys.yaml"
    key = created(path, "acme")
    before = path.read_bytes()
    os.chown(path, 65534, 65533)

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "chown", refuse)
    result = keys_command(path, "revoke", sha256_of(key)[:12])
    assert result.exit_code == 2
    assert (
        "cannot be replaced by a file of the same owner (uid 65534, gid 65533): " in result.stderr
    )
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@as_root
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_the_keys_owner_may_go_on_where_root_has_been(kind: str) -> None:
    # pytest's own temporary folders are root's alone.
    with tempfile.TemporaryDirectory() as name:
        folder = path = Path(name)
        if kind == "file":
            path = folder / "keys.yaml"
        created(path, "acme")
        os.chown(folder, 65534, 65534)
        for file in folder.glob("*.yaml"):
            os.chown(file, 65534, 65534)

        child = multiprocessing.get_context("fork").Process(target=_create_as_nobody, args=(path,))
        child.start()
        child.join()

        assert child.exitcode == 0
        assert len(ring_of(path)) == 2


def _create_as_nobody(path: Path) -> None:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
    _create_in_process(path, "other")


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    result = keys_command(tmp_path / "none" / "keys.yaml", "create", "acme")
    assert result.exit_code == 2
    assert "keys.yaml: cannot be written: " in result.stderr
    assert not (tmp_path / "none").exists()


def test_commands_at_the_same_time_lose_no_key(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    threads = [
        threading.Thread(target=_create_in_process, args=(path, f"tenant-{number}"))
        for number in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ring_of(path)) == 8


def _create_in_process(path: Path, tenant: str) -> None:
    from service.cli.keys import create

    create(tenant, path)
