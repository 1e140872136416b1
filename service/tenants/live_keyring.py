"""The keyring that follows its files."""

import asyncio
import logging
import time
from collections.abc import Mapping
from pathlib import Path

from service.errors import ConfigurationError
from service.tenants.keyring import Keyring, build_keyring, read_keys
from service.tenants.observer import TenancyObserver
from service.tenants.tenant import Tenant

_log = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0


class LiveKeyring:
    """The present keys of a file or folder, at most a few seconds late.

    Raises ConfigurationError if these cannot be used at the start. Later, a file that cannot be
    used is logged once, and the previous keys stay.
    """

    def __init__(self, path: Path, observer: TenancyObserver) -> None:
        self._path = path
        self._observer = observer
        sources = read_keys(path)
        self._ring = build_keyring(sources)
        observer.weights_read(self._ring.weights())
        self._tried: Mapping[str, bytes] | None = sources
        self._complaint = ""

    def tenant_of(self, key: str) -> Tenant | None:
        """Tenant of a live key; None if there is none."""
        return self._ring.tenant_of(key, time.time())

    def tenant_named(self, name: str) -> Tenant | None:
        """Tenant of this name; None if it has no live key."""
        return self._ring.tenant_named(name, time.time())

    def describe(self) -> str:
        """Numbers of tenants and keys, for a log."""
        return f"{len(self._ring)} keys of {len(self._ring.tenants)} tenants in {self._path}"

    async def follow(self) -> None:
        """Read the files again whenever they change; never returns.

        Compares content, not times: a copied file may keep its time, and a swapped link has none.
        """
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            try:
                ring = await asyncio.to_thread(self._changed)
            except Exception:
                # The next check must come after any error.
                self._observer.keys_read(accepted=False)
                _log.exception("changed keys refused, the previous keys stay")
                continue
            if ring is not None:
                self._ring = ring
                self._observer.weights_read(ring.weights())
                self._observer.keys_read(accepted=True)
                _log.info("keys read again: %s", self.describe())

    def _changed(self) -> Keyring | None:
        try:
            # After a failed read, the same files count as changed once they can be read.
            before, self._tried = self._tried, None
            self._tried = read_keys(self._path)
            if self._tried == before:
                return None
            ring = build_keyring(self._tried)
        except ConfigurationError as error:
            self._complain(str(error))
            return None
        self._complaint = ""
        return ring

    def _complain(self, complaint: str) -> None:
        if complaint != self._complaint:
            self._complaint = complaint
            self._observer.keys_read(accepted=False)
            _log.error("changed keys refused, the previous keys stay: %s", complaint)
