"""Host names: lists of them in settings, and the names of this machine."""

import ipaddress
import re
import socket
from collections.abc import Iterable

FROM_CONTAINERS = ("host.docker.internal", "gateway.docker.internal", "host.containers.internal")
"""This machine, as containers of Docker and Podman name it; nobody can register `.internal`."""

LOOPBACK_ORIGIN = r"https?://(localhost|127(\.[0-9]{1,3}){3}|\[::1\])(:[0-9]{1,5})?"
"""Expression for the origin of a page that a program on this machine serves."""


def is_loopback_origin(origin: str) -> bool:
    """True for the origin, in lower case, of a page from this machine; false for `null`."""
    return re.fullmatch(LOOPBACK_ORIGIN, origin) is not None


def is_loopback_only(host: str) -> bool:
    """True if only this machine reaches a listener on `host`, or `host` cannot be resolved."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError:
        return True
    addresses = {str(address[0]).partition("%")[0] for *_, address in found}
    return all(ipaddress.ip_address(address).is_loopback for address in addresses)


def is_listed(name: str, listed: Iterable[str]) -> bool:
    """True if a list has the name: as it is, as `*.` and its end, or as `*`, which is every name.

    All are in lower case.
    """
    return any(
        each in ("*", name) or (each.startswith("*.") and name.endswith(each[1:]))
        for each in listed
    )
