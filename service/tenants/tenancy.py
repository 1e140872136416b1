"""Finds tenants, and checks the addresses on which a service without keys may listen."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext

from service.common.aio import beside
from service.common.hosts import is_loopback_only
from service.errors import ConfigurationError
from service.settings.tree import Settings
from service.tenants.keyring import LiveKeyring
from service.tenants.quota_store import QuotaStore
from service.tenants.tenant import ANONYMOUS, TenancyObserver, Tenant


def check_anonymous(host: str) -> None:
    """Refuse to serve without keys on an address that other machines can reach.

    Raises ConfigurationError. A host that cannot be resolved passes, since binding the port will
    fail.
    """
    if not is_loopback_only(host):
        raise ConfigurationError(
            f"http.host: without keys the service listens on this machine only, got {host!r}: set "
            "tenants.keys, or tenants.allow_anonymous to serve every caller"
        )


_log = logging.getLogger(__name__)


class Tenancy:
    """Loads the keys and finds tenants; without a `keyring` all callers are one tenant.

    Raises ConfigurationError for keys that cannot be used, and for an address that must not be
    served without keys.
    """

    def __init__(self, settings: Settings, observer: TenancyObserver) -> None:
        path, host = settings.tenants.keys, settings.http.host
        self.keyring = None if path is None else LiveKeyring(path, observer)
        self.quotas = QuotaStore(
            settings.quotas.storage,
            timeout_s=settings.quotas.timeout_ms / 1000,
            fail_open=settings.quotas.on_failure == "open",
            observer=observer,
        )
        if self.keyring is not None:
            _log.info("callers need a key: %s", self.keyring.describe())
        elif settings.tenants.allow_anonymous:
            _log.warning("no keys: all callers that reach %s are served, as one tenant", host)
        else:
            check_anonymous(host)
            _log.warning("no keys: all callers on this machine are served, as one tenant")

    def tenant_named(self, name: str) -> Tenant | None:
        """Tenant of this name, if it may be served now: it has a live key, or needs none."""
        if self.keyring is not None:
            return self.keyring.tenant_named(name)
        return ANONYMOUS if name == ANONYMOUS.name else None

    @asynccontextmanager
    async def follow_keys(self) -> AsyncIterator[None]:
        """Follow changes of the keys while the block runs; then close the quota store."""
        following = beside(self.keyring.follow()) if self.keyring else nullcontext()
        try:
            async with following:
                yield
        finally:
            await self.quotas.close()
