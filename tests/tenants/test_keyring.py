"""Tenants by key, and keyrings that are refused."""

import hmac
import os
from pathlib import Path

import pytest

from service.errors import ConfigurationError
from service.tenants.keyring import (
    MAX_BYTES,
    Keyring,
    build_keyring,
    key_digest,
    new_key,
    read_keys,
)
from tools.keys import entry, key_of, sha256_of, write_keys

NOW = 1_800_000_000.0  # 2027-01-15T08:00:00Z


def ring_of(path: Path) -> Keyring:
    return build_keyring(read_keys(path))


def test_a_key_belongs_to_its_tenant_and_another_to_nobody(tmp_path: Path) -> None:
    ring = ring_of(write_keys(tmp_path / "k", entry("a", weight=2), entry("b")))
    tenant = ring.tenant_of(key_of("a"), NOW)
    assert tenant
    assert (tenant.name, tenant.weight) == ("a", 2)
    for key in ("", "sk-", key_of("a")[:-1], key_of("a") + "x", key_of("a").upper(), "x" * 10_000):
        assert ring.tenant_of(key, NOW) is None
    assert ring.tenant_of(sha256_of(key_of("a")), NOW) is None


def test_an_expired_key_belongs_to_nobody(tmp_path: Path) -> None:
    keys = [{"sha256": sha256_of("old"), "expires": "2027-01-15T08:00:00Z"}]
    ring = ring_of(write_keys(tmp_path / "k", entry("a", keys=keys)))
    assert ring.tenant_of("old", NOW - 1)
    assert ring.tenant_of("old", NOW) is None
    assert ring.tenant_named("a", NOW - 1) == ring.tenant_of("old", NOW - 1)
    assert ring.tenant_named("a", NOW) is None
    assert ring.tenant_named("b", NOW - 1) is None


def test_the_comparison_takes_constant_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def compare(first: bytes, second: bytes) -> bool:
        compared.append((first, second))
        return False

    ring = ring_of(write_keys(tmp_path / "k", entry("a")))
    monkeypatch.setattr("service.tenants.keyring.hmac.compare_digest", compare)
    assert ring.tenant_of(key_of("a"), NOW) is None
    assert compared == [(key_digest(key_of("a")), key_digest(key_of("a")))]


def test_keys_are_long_and_never_the_same() -> None:
    drawn = {new_key() for _ in range(100)}
    assert len(drawn) == 100
    assert {len(key) for key in drawn} == {len("sk-") + 43}
    assert hmac.compare_digest(key_digest("sk-a") or b"", bytes.fromhex(sha256_of("sk-a")))


def test_a_third_live_key_is_refused_and_expired_ones_do_not_count(tmp_path: Path) -> None:
    keys = [{"sha256": sha256_of(f"key {number}")} for number in range(3)]
    write_keys(tmp_path / "k", entry("a", keys=keys))
    with pytest.raises(ConfigurationError, match=r"k:1: the tenant 'a' may have 2 live.*got 3"):
        ring_of(tmp_path / "k")
    keys[0]["expires"] = "2020-01-01T00:00:00Z"
    ring = ring_of(write_keys(tmp_path / "k", entry("a", keys=keys)))
    assert [bool(ring.tenant_of(f"key {number}", NOW)) for number in range(3)] == [0, 1, 1]


@pytest.mark.parametrize(
    ("tenants", "message"),
    [
        ([entry("a"), entry("b"), entry("a", keys=[])], r"k:1: the tenant 'a' is also at k:1"),
        ([entry("a"), entry("b", keys=entry("a")["keys"])], r"the key .{12} is also at k:1"),
        ([entry("service")], r"'service' is the service's own"),
        ([entry("anonymous")], r"'anonymous' is the service's own"),
    ],
)
def test_what_stands_twice_or_is_reserved_is_refused(
    tmp_path: Path, tenants: list[dict[str, object]], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        ring_of(write_keys(tmp_path / "k", *tenants))


def test_a_folder_is_the_sum_of_its_files(tmp_path: Path) -> None:
    write_keys(tmp_path / "a.yaml", entry("a"))
    write_keys(tmp_path / "b.yaml", entry("b"))
    (tmp_path / ".hidden").write_text("not a keys file")
    (tmp_path / "folder").mkdir()
    ring = ring_of(tmp_path)
    assert list(ring.tenants) == ["a", "b"]
    write_keys(tmp_path / "c.yaml", entry("a", keys=[]))
    with pytest.raises(ConfigurationError, match=r"c.yaml:1: the tenant 'a' is also at a.yaml:1"):
        ring_of(tmp_path)


def test_a_mounted_secret_is_read_from_one_version(tmp_path: Path) -> None:
    for version in ("..1", "..2"):
        (tmp_path / version).mkdir()
    write_keys(tmp_path / "..1" / "a.yaml", entry("a"))
    write_keys(tmp_path / "..2" / "a.yaml", entry("b"))
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "a.yaml").symlink_to("..data/a.yaml")
    write_keys(tmp_path / "of no version", entry("c"))
    assert list(ring_of(tmp_path).tenants) == ["a"]
    (tmp_path / "..new").symlink_to("..2")
    os.replace(tmp_path / "..new", tmp_path / "..data")
    assert list(ring_of(tmp_path).tenants) == ["b"]


def test_what_cannot_be_read_or_is_too_large_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"none: cannot be read: No such file"):
        read_keys(tmp_path / "none")
    (tmp_path / "a").write_bytes(b" " * (MAX_BYTES // 2))
    (tmp_path / "b").write_bytes(b" " * (MAX_BYTES // 2 + 1))
    with pytest.raises(ConfigurationError, match=rf"at most {MAX_BYTES} bytes"):
        read_keys(tmp_path)
    (tmp_path / "c").write_bytes(b" " * MAX_BYTES)
    assert read_keys(tmp_path / "c").keys() == {"c"}
    (tmp_path / "c").write_bytes(b" " * (MAX_BYTES + 1))
    with pytest.raises(ConfigurationError, match=rf"at most {MAX_BYTES} bytes"):
        read_keys(tmp_path / "c")
