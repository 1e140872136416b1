"""Addresses that are served: the loopback without keys, anywhere with them."""

import logging
from contextlib import nullcontext
from pathlib import Path
from typing import Literal

import pytest
from prometheus_client import CollectorRegistry

from service.errors import ConfigurationError, Unavailable
from service.settings.tree import (
    HttpSettings,
    ModelSettings,
    QuotaSettings,
    Settings,
    TenantSettings,
)
from service.telemetry.lifecycle import TenantMetrics
from service.tenants.tenancy import Tenancy
from service.tenants.tenant import ANONYMOUS, Quota, Tenant
from tools.keys import entry, key_of, write_keys


def tenancy(
    host: str, tenants: TenantSettings | None = None, quotas: QuotaSettings | None = None
) -> Tenancy:
    settings = Settings(
        model=ModelSettings(name="m", path=Path("m")),
        http=HttpSettings(host=host),
        tenants=tenants or TenantSettings(),
        quotas=quotas or QuotaSettings(),
    )
    return Tenancy(settings, TenantMetrics(CollectorRegistry()))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_without_keys_the_loopback_is_served_and_that_is_said(
    host: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        assert tenancy(host).keyring is None
    assert "no keys" in caplog.text


@pytest.mark.parametrize("host", ["0.0.0.0", "0", "::", "192.0.2.1", "::ffff:192.0.2.1"])
def test_without_keys_another_address_is_refused_unless_told_to(
    host: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ConfigurationError, match=r"http\.host: .*tenants\.allow_anonymous"):
        tenancy(host)
    assert tenancy(host, TenantSettings(allow_anonymous=True)).keyring is None
    assert "all callers that reach" in caplog.text


def test_with_keys_any_address_is_served(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    keys = write_keys(tmp_path / "keys", entry("a"), entry("b"))
    with caplog.at_level(logging.INFO):
        made = tenancy("0.0.0.0", TenantSettings(keys=keys))
    assert made.keyring
    assert made.keyring.tenant_of(key_of("a"))
    assert f"2 keys of 2 tenants in {keys}" in caplog.text
    assert key_of("a") not in caplog.text


def test_a_tenant_is_named_by_its_keys_and_without_keys_there_is_one(tmp_path: Path) -> None:
    keys = write_keys(tmp_path / "keys", entry("a"))
    keyed = tenancy("0.0.0.0", TenantSettings(keys=keys))
    tenant = keyed.tenant_named("a")
    assert tenant
    assert tenant.name == "a"
    assert keyed.tenant_named(ANONYMOUS.name) is None
    open_to_all = tenancy("127.0.0.1")
    assert open_to_all.tenant_named(ANONYMOUS.name) is ANONYMOUS
    assert open_to_all.tenant_named("a") is None


@pytest.mark.parametrize("on_failure", ["open", "closed"])
async def test_the_settings_say_whether_a_failing_storage_lets_requests_in(
    on_failure: Literal["open", "closed"],
) -> None:
    nobody = "redis://127.0.0.1:1"
    made = tenancy("127.0.0.1", quotas=QuotaSettings(storage=nobody, on_failure=on_failure))
    tenant = Tenant("a", quotas=(Quota("requests", 9, 60),))
    with nullcontext() if on_failure == "open" else pytest.raises(Unavailable):
        for _ in range(5):
            await made.quotas.take(tenant, "requests", 1)
    await made.quotas.close()


def test_keys_that_are_missing_or_broken_end_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"none: cannot be read"):
        tenancy("127.0.0.1", TenantSettings(keys=tmp_path / "none"))
    (tmp_path / "k").write_text("tenants: [")
    with pytest.raises(ConfigurationError, match=r"k:2: not valid YAML"):
        tenancy("127.0.0.1", TenantSettings(keys=tmp_path / "k"))


def test_a_storage_that_cannot_be_one_ends_the_start() -> None:
    with pytest.raises(ConfigurationError, match=r"quotas\.storage"):
        tenancy("127.0.0.1", quotas=QuotaSettings(storage="redis://host:port"))
