"""Entrance: the only place that turns a request's key into a tenant."""

from starlette.datastructures import Headers
from starlette.types import Scope

from service.api.caller import AllowedHosts
from service.api.peer import peer_of
from service.console.assets import PARTS
from service.context import RequestContext
from service.errors import Unauthenticated
from service.tenants.allowance import Allowance
from service.tenants.live_keyring import LiveKeyring
from service.tenants.quota_store import QuotaStore
from service.tenants.tenant import Tenant

_ASSETS = "/static-offline-docs"
OPEN_PATHS = frozenset(
    {
        "/health",
        "/ping",
        "/console",
        *(f"/console/{name}" for name in PARTS),
        "/docs",
        "/openapi.json",
        f"{_ASSETS}/favicon.png",
        f"{_ASSETS}/swagger-ui.css",
        f"{_ASSETS}/swagger-ui-bundle.js",
    }
)
"""Paths that need no key, exactly these, by GET and HEAD: health, documentation, the console's
files."""


class Entrance:
    """Requires a live key for every path that is not in OPEN_PATHS, even for paths without a route.

    The key comes in `Authorization`, as OpenAI's clients send it, or `x-api-key`, as Anthropic's.
    Without a keyring every caller is the anonymous tenant; if `hosts` are given, requests that
    pages of other sites cause are refused. A request that the service makes itself brings its
    tenant. Decides before the body is read, on the path that is routed and never on a URL built
    from the Host header.
    """

    def __init__(
        self, keyring: LiveKeyring | None, quotas: QuotaStore, hosts: AllowedHosts | None
    ) -> None:
        self._keyring = keyring
        self._hosts = hosts
        self._quotas = quotas

    async def admit(self, scope: Scope, headers: Headers, context: RequestContext) -> None:
        """Give the request its tenant and count it.

        Raises Unauthenticated, and what `AllowedHosts.check` and `QuotaStore.take` raise.
        """
        tenant = peer_of(scope).tenant
        if tenant is None:
            if self._hosts is not None:
                self._hosts.check(headers)
            if self._keyring is None or _is_open(scope):
                return
            tenant = _tenant(self._keyring, headers)
        context.tenant = tenant
        context.allowance = Allowance(self._quotas, context.tenant)
        if tenant.quotas:
            context.at_end.push_async_callback(context.allowance.settle)
        await context.allowance.count_request()


def _is_open(scope: Scope) -> bool:
    return scope["method"] in ("GET", "HEAD") and scope["path"] in OPEN_PATHS


def _tenant(keyring: LiveKeyring, headers: Headers) -> Tenant:
    bearers, plain = headers.getlist("authorization"), headers.getlist("x-api-key")
    if not bearers and not plain:
        raise Unauthenticated("Authorization: a key is required, as `Bearer KEY` or in x-api-key")
    keys = {*map(_bearers_key, bearers), *plain}
    tenant = None
    if len(bearers) < 2 and len(plain) < 2 and len(keys) == 1:  # where both are sent, they agree
        tenant = keyring.tenant_of(keys.pop())
    if tenant is None:
        raise Unauthenticated(
            "Authorization: the key is unknown, expired, revoked or not sent as `Bearer KEY`"
        )
    return tenant


def _bearers_key(value: str) -> str:
    scheme, _, key = value.partition(" ")
    return key.strip(" ") if scheme.lower() == "bearer" else ""
