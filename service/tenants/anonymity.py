"""Rule for the addresses on which a service without keys may listen."""

import ipaddress
import socket

from service.errors import ConfigurationError


def check_anonymous(host: str) -> None:
    """Refuse to serve everyone on an address that others can reach.

    Raises ConfigurationError. Binding the port reports a host that cannot be resolved.
    """
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError:
        return
    addresses = {str(address[0]).partition("%")[0] for *_, address in found}
    if not all(ipaddress.ip_address(address).is_loopback for address in addresses):
        raise ConfigurationError(
            f"http.host: without keys the service listens on this machine only, got {host!r}: set "
            "tenants.keys, or tenants.allow_anonymous to serve every caller"
        )
