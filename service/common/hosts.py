"""Names of hosts: what a `Host` header or an address says, and lists of them in settings."""

import re
from collections.abc import Iterable
from ipaddress import IPv6Address

_AUTHORITY = re.compile(
    r"(?:(?P<name>[a-z0-9_~-]+(?:\.[a-z0-9_~-]+)*)\.?|\[(?P<ipv6>[0-9a-f:.]{2,45})\])"
    r"(?::[0-9]{1,5})?"
)


def host_name(authority: str) -> str | None:
    """The name or address of `host` or `host:port` in lower case, without brackets and last dot.

    None for anything else. Of RFC 3986 this takes labels of unreserved characters and the
    addresses of IPv6, since no name in use has a percent-encoding or `,`, which joins two headers.
    """
    found = _AUTHORITY.fullmatch(authority.lower())
    if found is None:
        return None
    if found["ipv6"] is None:
        return found["name"]
    try:
        IPv6Address(found["ipv6"])
    except ValueError:
        return None
    return found["ipv6"]


def is_listed(name: str, listed: Iterable[str]) -> bool:
    """True if a list has the name: as it is, as `*.` and its end, or as `*`, which is every name.

    All are in lower case.
    """
    return any(
        each in ("*", name) or (each.startswith("*.") and name.endswith(each[1:]))
        for each in listed
    )
