"""The limit on open files, which counts connections too."""

import logging
import resource

_log = logging.getLogger(__name__)

_OTHERS = 512
"""Files, pipes and sockets beside clients' connections: the engine's, adapters', operations'."""


def allow_connections(connections: int) -> None:
    """Raise the soft limit (RLIMIT_NOFILE) to what so many connections need, as far as allowed.

    Containers often begin with 1,024; beyond the limit no connection is accepted. Processes that
    are started later inherit the limit.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = connections + _OTHERS
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < needed:
        _log.warning(
            "http.max_connections: %d connections need %d open files, and the hard limit is %d "
            "(ulimit -Hn)",
            connections,
            needed,
            hard,
        )
