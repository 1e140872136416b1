"""Salts that keep the engine's cached prefixes apart."""

import hmac
import secrets
from functools import lru_cache, partial

from service.tenants.tenant import Tenant

_SECRET_BYTES = 32
_MOST_KEPT = 4096


class CacheSalts:
    """One salt for each pair of a tenant (or its salt group) and the weights that it uses.

    The secret lives as long as the process and its cache: no caller can predict a salt, and no
    secret must be stored.
    """

    def __init__(self) -> None:
        secret = secrets.token_bytes(_SECRET_BYTES)
        self._salt = lru_cache(_MOST_KEPT)(partial(_salt, secret))

    def salt(self, tenant: Tenant, weights: str) -> str:
        """HMAC-SHA256 of both; `weights` identifies an adapter's version, empty for the base."""
        return self._salt(tenant.cache_domain, weights)


def _salt(secret: bytes, domain: str, weights: str) -> str:
    # JSON-like framing is not needed: no domain holds a line break.
    return hmac.digest(secret, f"{domain}\n{weights}".encode(), "sha256").hex()
