"""Salts that keep the engine's cached prefixes apart."""

import hmac
import secrets

from service.tenants.tenant import Tenant

_SECRET_BYTES = 32


class CacheSalts:
    """One salt for each pair of a tenant (or its salt group) and the weights that it uses.

    The secret lives as long as the process and its cache: no caller can predict a salt, and no
    secret must be stored.
    """

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(_SECRET_BYTES)

    def salt(self, tenant: Tenant, weights: str) -> str:
        """HMAC-SHA256 of both; `weights` identifies an adapter's version, empty for the base."""
        # JSON-like framing is not needed: no domain holds a line break.
        message = f"{tenant.cache_domain}\n{weights}".encode()
        return hmac.digest(self._secret, message, "sha256").hex()
