"""Origin of a request: the name in `Host`, the page that sent it, the address of its client."""

import ipaddress
from collections.abc import Iterable

from starlette.datastructures import Headers
from starlette.types import Scope

from service.errors import Forbidden, InvalidRequest
from service.hosts import host_name, is_listed
from service.quoting import quote


class AllowedHosts:
    """Refuses requests that a web page of another site can make a browser send here.

    A page can have its own name resolve to this machine, and then read the answers (DNS rebinding).
    So the `Host` must be an address, a name without a dot, which no page has, or one of `names`,
    in which `*.` stands for any name below and `*` for every name. Pages of `origins` may call.
    """

    def __init__(self, names: Iterable[str], origins: Iterable[str] = ()) -> None:
        self._names = tuple(name.lower() for name in names)
        self._origins = frozenset(origin.lower() for origin in origins)

    def check(self, headers: Headers) -> None:
        """Raise Forbidden for a name that is not allowed and for a request of another site."""
        host = headers.get("host", "").lower()
        name = name_of_host(host) if host else ""  # of HTTP/1.0, which no browser sends
        if not ("." not in name or _is_address(name) or is_listed(name, self._names)):
            raise Forbidden(
                f"Host: must be an address or listed in http.allowed_hosts, got {quote(name)}",
                code="host_not_allowed",
            )
        origin = headers.get("origin", "").lower()
        if origin in self._origins:
            return
        foreign = origin != "" and origin.partition("://")[2] != host
        if foreign or headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            raise Forbidden(
                "Requests made by pages of other sites are refused: list the page's origin in "
                "http.cors_origins, or set tenants.keys.",
                code="cross_site",
            )


def name_of_host(host: str) -> str:
    """The name or address in a `Host` header, without its port; raises InvalidRequest."""
    name = host_name(host)
    if name is None:
        message = f"Host: must be a name or an address, and perhaps a port, got {quote(host)}"
        raise InvalidRequest(message, param="Host", code="invalid_host")
    return name


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
