"""Stores that tests open, and stages whose counts they keep."""

import asyncio
import os
from collections import defaultdict
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from loadtests.processes import PATIENCE_S
from service.errors import Unavailable
from service.plugins.rollouts.canary import Canary, Experiment
from service.plugins.rollouts.folder_store import FolderStore
from service.plugins.rollouts.log import Change, Event
from service.plugins.rollouts.settings import PlanSettings
from service.plugins.rollouts.shared_store import SharedStore
from service.plugins.rollouts.standing import Candidate, standings
from service.plugins.rollouts.store import Heard, Store
from tests.tenants.redis_server import RedisServer

NAME = "sentiment"
LABELS = ("negative", "positive")
OLD = Candidate(f"sha256:{'1' * 64}", "sentiment@1.0.0", LABELS)
NEW = Candidate(f"sha256:{'2' * 64}", "sentiment@1.1.0", LABELS)
PLAN = PlanSettings.model_validate(
    {
        "source": "next",
        "digest": NEW.digest,
        "sticky": "request",
        "canary": [{"share": 0.5, "requests": 1000}],
        "trusted_tenants": ["trusted"],
    }
)
STEP = Change(NAME, Event.STEP, "configuration", OLD.digest, NEW.digest, 0.5)
VERDICT = Change(NAME, Event.ROLLED_BACK, "rule:errors", NEW.digest, OLD.digest)


@dataclass
class Replica:
    """What `Releases` does with a store: the stage of the last change, and the calls of `sync`."""

    store: Store
    users: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    stages: dict[str, Canary] = field(default_factory=dict)
    effects: list[Change] = field(default_factory=list)

    async def write(self, change: Change) -> None:
        """Write a change, and begin its stage."""
        await self.store.commit([change], self.effects.append)
        self.begin()

    def begin(self) -> None:
        """Begin the stage that the log says runs."""
        standing = standings(self.store.changes).get(NAME)
        self.stages.clear()
        if standing is not None:
            stage = Experiment(OLD, PLAN, NEW).stage(standing, self.users[NAME])
            if isinstance(stage, Canary):
                self.store.resume(NAME, stage)
                self.stages[NAME] = stage

    async def sync_again(self) -> None:
        """Call `sync` until the store answers, and once more."""
        async with asyncio.timeout(PATIENCE_S):
            for _ in range(2):
                while True:
                    with suppress(Unavailable):
                        await self.sync()
                        break

    async def refresh(self) -> None:
        if (await self.store.refresh()).changed:
            self.begin()

    async def sync(self) -> Heard:
        heard = await self.store.sync(self.stages, self.users)
        if heard.changed:
            self.begin()
        return heard

    async def end(self) -> None:
        await self.store.leave(self.stages, self.users)
        self.store.close(self.stages)

    @property
    def stage(self) -> Canary:
        return self.stages[NAME]


@dataclass(frozen=True)
class Place:
    """A folder, or a Redis in its place."""

    path: Path
    redis: RedisServer | None

    def open(self) -> Store:
        return FolderStore(self.path) if self.redis is None else SharedStore(self.redis.url)

    async def opened(self) -> Replica:
        replica = Replica(self.open())
        try:
            await replica.refresh()
        except Unavailable:
            await replica.end()
            raise
        replica.begin()
        return replica

    def gone(self, store: Store) -> AbstractContextManager[None]:
        """While the block runs, nothing can be written."""
        return _full_disk(store) if isinstance(store, FolderStore) else self._killed()

    @contextmanager
    def _killed(self) -> Iterator[None]:
        assert self.redis is not None
        self.redis.kill()
        try:
            yield
        finally:
            self.redis.start()


@contextmanager
def _full_disk(store: FolderStore) -> Iterator[None]:
    assert store.log is not None
    descriptor = store.log._descriptor
    own, full = os.dup(descriptor), os.open("/dev/full", os.O_RDWR)
    os.dup2(full, descriptor)
    try:
        yield
    finally:
        os.dup2(own, descriptor)
        os.close(own)
        os.close(full)
