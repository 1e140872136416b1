"""The address of a port, taken before anything slow starts."""

import socket

from service.errors import ConfigurationError


def bind(key: str, host: str, port: int) -> socket.socket:
    """A socket bound to the address, not yet listening: clients are refused until a server runs.

    Raises ConfigurationError with the settings key and the address that cannot be bound.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, socket.SOCK_STREAM)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    except OSError as error:
        raise ConfigurationError(f"{key}: {host!r} is no address: {error.strerror}") from error
    try:
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise ConfigurationError(
            f"{key}: cannot listen on {host}:{port}: {error.strerror}"
        ) from error
    bound.set_inheritable(False)
    return bound
