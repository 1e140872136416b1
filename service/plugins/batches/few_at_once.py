"""A bound on what each tenant has under way at once."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from service.errors import TooManyRequests


class FewAtOnce:
    """Counts things of one kind, `most` of a tenant at once."""

    def __init__(self, most: int, kind: str) -> None:
        self._most = most
        self._kind = kind
        self._running: Counter[str] = Counter()

    @contextmanager
    def one(self, tenant: str) -> Iterator[None]:
        """One more while the block runs; raises TooManyRequests beyond the bound."""
        if self._running[tenant] >= self._most:
            raise TooManyRequests(
                f"file: at most {self._most} {self._kind} of a tenant at once. Send fewer.",
                code=f"too_many_{self._kind}",
                retry_after=1,
            )
        self._running[tenant] += 1
        try:
            yield
        finally:
            self._running[tenant] -= 1
            if not self._running[tenant]:
                del self._running[tenant]
