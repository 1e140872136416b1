"""Authentication of requests, checks of their host and origin, and the service's own requests."""

import ipaddress
import math
import re
from collections.abc import Collection, Iterable

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.common.error_messages import quote
from service.common.hosts import (
    FROM_CONTAINERS,
    LOOPBACK_ORIGIN,
    is_listed,
    is_loopback_origin,
)
from service.context import RequestContext
from service.errors import Forbidden, InvalidRequest, Unauthenticated
from service.http.exchange import ID_HEADER, KEY, TIMEOUT_HEADER, Peer, peer_of
from service.http.json_routes import replay
from service.runtime.parts import Reply
from service.tenants.keyring import LiveKeyring
from service.tenants.quota_store import Allowance, QuotaStore
from service.tenants.tenant import Tenant


class AllowedHosts:
    """Refuses requests that a web page of another site can make a browser send here.

    The owner of a page can let the page's host name resolve to this machine, and then read the
    answers (DNS rebinding). So the `Host` must be an address, a name without a dot (no page has
    one), a container's name for its host, or one of `names`; `*.` matches any subdomain and `*`
    every name. Pages of `origins` may call; with `local_pages`, so may pages that this machine
    serves.
    """

    def __init__(
        self, names: Iterable[str], origins: Iterable[str] = (), *, local_pages: bool = False
    ) -> None:
        self._names = (*FROM_CONTAINERS, *(name.lower() for name in names))
        self._origins = frozenset(origin.lower() for origin in origins)
        self._local_pages = local_pages

    def check(self, headers: Headers, method: str = "POST") -> None:
        """Raise Forbidden for a name that is not allowed and for a request of another site.

        A link that a person follows passes: its page cannot read the answer, and GET changes
        nothing.
        """
        host = headers.get("host", "").lower()
        name = parse_host(host) if host else ""  # of HTTP/1.0, which no browser sends
        if not ("." not in name or _is_address(name) or is_listed(name, self._names)):
            raise Forbidden(
                f"Host: must be an address or listed in http.allowed_hosts, got {quote(name)}",
                code="host_not_allowed",
            )
        origin = headers.get("origin", "").lower()
        if origin in self._origins or self._is_local(origin, host):
            return
        foreign = origin != "" and origin.partition("://")[2] != host
        own = headers.get("sec-fetch-site", "none") in ("none", "same-origin")
        if foreign or not (own or _is_link(headers, method)):
            whose = f"of {quote(origin)}" if origin else "of other sites"
            raise Forbidden(
                f"Requests made by pages {whose} are refused: for the public port list the page's "
                "origin in http.cors_origins, or set tenants.keys",
                code="cross_site",
            )

    def _is_local(self, origin: str, host: str) -> bool:
        """True for a page of this machine that calls this machine by a name of the loopback.

        By the name of a proxy it would call with what the proxy lets its users do.
        """
        return self._local_pages and all(map(is_loopback_origin, (origin, f"http://{host}")))


def _is_link(headers: Headers, method: str) -> bool:
    """True for a request that replaces the whole page; in a frame it would be seen elsewhere."""
    sent = headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest")
    return method in ("GET", "HEAD") and sent == ("navigate", "document")


_AUTHORITY = re.compile(
    r"(?:(?P<name>[a-z0-9_~-]+(?:\.[a-z0-9_~-]+)*)\.?|\[(?P<ipv6>[0-9a-f:.]{2,45})\])"
    r"(?::[0-9]{1,5})?"
)


def parse_host(host: str) -> str:
    """The name or address in a `Host` header, in lower case, without port, brackets and last dot.

    Raises InvalidRequest for anything else. Of RFC 3986 this accepts names of unreserved
    characters, and IP addresses. It rejects percent-encoding, which no real host name uses, and
    `,`, which appears when two headers are joined.
    """
    found = _AUTHORITY.fullmatch(host.lower())
    if found is not None and found["name"]:
        return found["name"]
    if found is not None and ":" in found["ipv6"] and _is_address(found["ipv6"]):
        return found["ipv6"]
    message = f"Host: must be a name or an address, and perhaps a port, got {quote(host)}"
    raise InvalidRequest(message, param="Host", code="invalid_host")


def from_loopback(scope: Scope) -> bool:
    """True where the peer of the connection is on this machine."""
    client = scope.get("client")
    if client is None or not _is_address(client[0]):
        return False
    address = ipaddress.ip_address(client[0])
    # A socket for IPv4 and IPv6 shows IPv4 addresses so.
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class Authenticator:
    """Requires a live key for every path that is not open, even for paths without a route.

    The key comes in `Authorization`, as OpenAI's clients send it, or `x-api-key`, as Anthropic's.
    Without a keyring every caller is the anonymous tenant. `hosts`, if given, refuses requests from
    pages of other sites. A request that the service itself makes carries its tenant. The decision
    is made before the body is read, by the path that the router uses and not by a URL built from
    the Host header.
    """

    def __init__(
        self,
        keyring: LiveKeyring | None,
        quotas: QuotaStore,
        hosts: AllowedHosts | None,
        open_paths: Collection[str],
    ) -> None:
        self._open_paths = open_paths
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
                self._hosts.check(headers, scope["method"])
            if self._keyring is None or self._is_open(scope):
                return
            tenant = _tenant(self._keyring, headers)
        context.tenant = tenant
        context.allowance = Allowance(self._quotas, context.tenant)
        if tenant.quotas:
            context.at_end.push_async_callback(context.allowance.settle)
        await context.allowance.count_request()

    def _is_open(self, scope: Scope) -> bool:
        """True for exactly these paths, by GET and HEAD."""
        return scope["method"] in ("GET", "HEAD") and scope["path"] in self._open_paths


def _tenant(keyring: LiveKeyring, headers: Headers) -> Tenant:
    bearers, plain = headers.getlist("authorization"), headers.getlist("x-api-key")
    if not bearers and not plain:
        raise Unauthenticated("Authorization: a key is required, as `Bearer KEY` or in x-api-key")
    keys = {*map(bearer_key, bearers), *plain}
    tenant = None
    if len(bearers) < 2 and len(plain) < 2 and len(keys) == 1:  # where both are sent, they agree
        tenant = keyring.tenant_of(keys.pop())
    if tenant is None:
        raise Unauthenticated(
            "Authorization: the key is unknown, expired, revoked or not sent as `Bearer KEY`"
        )
    return tenant


def bearer_key(value: str) -> str:
    """The key in the value of an `Authorization` header; empty for another scheme."""
    scheme, _, key = value.partition(" ")
    return key.strip(" ") if scheme.lower() == "bearer" else ""


class InternalClient:
    """Calls the public app without a socket; such a call passes the same checks as a client's.

    It counts in quotas, metrics and the log, and cancelling the call has the effect of a client's
    disconnect.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(
        self, tenant: Tenant, path: str, body: bytes, *, request_id: str, timeout_s: float
    ) -> Reply:
        """Post a JSON body to a path, and wait for the whole answer."""
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (ID_HEADER.encode(), request_id.encode()),
            (TIMEOUT_HEADER.encode(), b"%d" % math.ceil(1000 * timeout_s)),
        ]
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": b"",
            "headers": headers,
            "client": None,
            "server": None,
            KEY: Peer(tenant=tenant),
        }
        start: Message = {"status": 500, "headers": []}
        parts: list[bytes] = []

        async def take(message: Message) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
            else:
                parts.append(message.get("body", b""))

        await self._app(scope, replay(body), take)
        wait = Headers(raw=start["headers"]).get("retry-after")
        return Reply(start["status"], b"".join(parts), None if wait is None else float(wait))


_EXPOSED = (
    "x-request-id x-feedback-id request-id x-ignored-fields x-schema-checked x-guard-flagged "
    "traceresponse "
    "retry-after retry-after-ms x-should-retry "
    "x-ratelimit-limit-requests x-ratelimit-remaining-requests x-ratelimit-reset-requests "
    "x-ratelimit-limit-tokens x-ratelimit-remaining-tokens x-ratelimit-reset-tokens"
).split()
"""Headers of answers that pages may read."""
_PREFLIGHT_SECONDS = 600


class Cors(CORSMiddleware):
    """Answers preflights, which carry no key, and lets pages of `origins` read the answers.

    With `local_pages`, pages that this machine serves may read them too. Cookies are not allowed,
    so a page without a key gets no more than any other caller without a key.
    """

    def __init__(self, app: ASGIApp, origins: Iterable[str], *, local_pages: bool) -> None:
        super().__init__(
            app,
            allow_origins=tuple(origins),
            allow_origin_regex=LOOPBACK_ORIGIN if local_pages else None,
            allow_private_network=True,
            allow_methods=("GET", "HEAD", "POST", "DELETE"),
            allow_headers=("*",),
            expose_headers=_EXPOSED,
            max_age=_PREFLIGHT_SECONDS,
        )
        self._always = bool(self.allow_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer; where no origin is listed, a request of no page of this machine goes through.

        So the checks behind this one can say why it is refused.
        """
        origin = "" if scope["type"] != "http" else Headers(scope=scope).get("origin", "")
        if self._always or self.is_allowed_origin(origin):
            await super().__call__(scope, receive, send)
        else:
            await self.app(scope, receive, send)
