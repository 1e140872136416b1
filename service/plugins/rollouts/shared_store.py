"""The state of releases and of feedback in a Redis or Valkey, which all replicas share.

Every replica sends what it has counted once a second, and gets the sums of all. The one that has
the lease of a release judges these sums, so there is one sequence of looks at one sequence of
counts, for which the tests' error bound holds. It writes a verdict only while it has the lease and
the log is as it knew it.
"""

import asyncio
import json
import logging
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from service.common.redis_client import KEY_PREFIX, ScriptStore
from service.engine.pooling import missing
from service.errors import ConfigurationError, Unavailable
from service.plugins.rollouts import shared_scripts as scripts
from service.plugins.rollouts.answer_ids import DAY_SECONDS, KEY_BYTES, too_old
from service.plugins.rollouts.comparison import GROUPS
from service.plugins.rollouts.feedback_ledger import (
    LEVEL_MOST,
    MOST,
    MOST_VERSIONS,
    PULL,
    Rated,
    Tally,
    Version,
    already_rated,
)
from service.plugins.rollouts.log import FIRST, Change, digest_of, read_chain, sealed
from service.plugins.rollouts.standing import Stage, standings
from service.plugins.rollouts.store import Heard, LeaseLost, Outrun, Stages, Users

_log = logging.getLogger(__name__)

ROOT = f"{KEY_PREFIX}/{{releases}}/"
"""Beginning of every key; the braces keep them on one node of a cluster."""
SYNC_SECONDS = 1.0
LEASE_SECONDS = 10.0
START_SECONDS = 30.0
_PLACE = "releases.storage"
_TOKEN_SECONDS = 60


class _Known(NamedTuple):
    """What this replica knows of a stage: its beginning, its revision, and the stored users."""

    since: int = 0
    revision: str = ""
    users: frozenset[str] = frozenset()


class SharedStore:
    """Implements `store.Store` at an address of `releases.storage`.

    Nothing takes effect before it is written. Does not connect before the first call. Raises
    ConfigurationError for an invalid address.
    """

    shared = True
    pause_seconds = SYNC_SECONDS

    def __init__(self, address: str) -> None:
        self._scripts = ScriptStore(address, _PLACE, ROOT, "releases")
        self._replica = secrets.token_hex(8)
        self._lines: list[bytes] = []
        self.changes: list[Change] = []
        self.head = FIRST
        self.key = secrets.token_bytes(KEY_BYTES)
        self.levels: dict[str, float] = {}
        self._moves = ""
        self._tallies: Mapping[Version, Tally] = {}
        self._known: dict[str, _Known] = {}
        self._sequence = 0
        self._unconfirmed: Sequence[Mapping[str, Any]] = ()
        """The counts of `_sequence`, until the server has confirmed them."""
        self._written: bytes | None = None
        """A line that was sent, without an answer so far."""
        self._opened = False

    async def refresh(self) -> Heard:
        deadline = asyncio.get_running_loop().time() + START_SECONDS
        while True:
            try:
                return await self._follow(await self._exchange({}, {}))
            except Unavailable as error:
                if self._opened or asyncio.get_running_loop().time() > deadline:
                    raise
                _log.warning("the start waits: %s", error)
                await asyncio.sleep(SYNC_SECONDS)

    async def commit(self, changes: Sequence[Change], effect: Callable[[Change], None]) -> None:
        for change in changes:
            effect(await self._append(change))

    def resume(self, name: str, stage: Stage[Any]) -> None:
        self._known.pop(name, None)
        stage.share_counts()

    async def sync(self, stages: Stages, users: Users) -> Heard:
        if not self._unconfirmed:
            found = (_collected(name, stage) for name, stage in stages.items())
            self._unconfirmed = [each for each in found if each["tenants"]]
            self._sequence += bool(self._unconfirmed)
        reply = await self._exchange(stages, users)
        if reply["whole"]:
            self._unconfirmed = ()
        for stage in stages.values():
            stage.judges = False
        for found in reply["stages"]:
            self._take_stage(stages[found["name"]], found)
        return await self._follow(reply)

    async def rate(self, rated: Rated) -> Tally:
        answer, sums = rated.answer, Tally()
        sums.add(answer.told, rated.rating)
        message = {
            "tenant": rated.tenant,
            "version": _packed(rated.version),
            "answer": f"{answer.time} {answer.nonce}",
            "time": answer.time,
            "oldest": rated.now - DAY_SECONDS - 1,
            "sums": {field: repr(number) for field, number in _flat(sums).items() if number},
        }
        if (level := _level(rated)) is not None:
            message["level"] = level
        limits = (MOST, MOST_VERSIONS, _TOKEN_SECONDS * 1000)
        reply = await self._scripts.run(
            scripts.RATE, json.dumps(message), secrets.token_hex(8), *limits
        )
        match reply[0]:
            case b"rated":
                raise already_rated()
            case b"forgotten":
                raise too_old("too many answers since this one were rated")
        return _tally(_pairs(reply[1]))

    async def tallies(self) -> Mapping[Version, Tally]:
        async def read(client: Any) -> list[tuple[Version, Tally]]:
            names = [name.decode() for name in await client.zrange(f"{ROOT}tallied", 0, -1)]
            pipeline = client.pipeline(transaction=False)
            for name in names:
                pipeline.hgetall(f"{ROOT}tally/{name}")
            found = zip(names, await pipeline.execute(), strict=True) if names else ()
            return [(Version(*json.loads(name)), _tally(sums)) for name, sums in found]

        with suppress(Unavailable):
            self._tallies = dict(await self._scripts.ask(read))
        return self._tallies

    async def lines(self) -> list[bytes]:
        """The stored log."""
        found = await self._scripts.ask(lambda client: client.lrange(f"{ROOT}changes", 0, -1))
        return list(found)

    async def leave(self, stages: Stages, users: Users) -> None:
        with suppress(Unavailable):
            await self.sync(stages, users)
            await self._scripts.run(scripts.RELEASE, self._replica, *stages)
        await self._scripts.close()

    def close(self, stages: Stages) -> None:
        """Nothing: `leave` wrote it."""

    async def _exchange(self, stages: Stages, users: Users) -> dict[str, Any]:
        asked = [self._ask(name, stage, users[name]) for name, stage in stages.items()]
        message = json.dumps({"counts": self._unconfirmed, "stages": asked})
        times = (int(LEASE_SECONDS * 1000), DAY_SECONDS * 1000)
        reply: dict[str, Any] = json.loads(
            await self._scripts.run(
                scripts.SYNC,
                *(self._replica, self._sequence, len(self._lines), *times, message),
                *(GROUPS, secrets.token_hex(KEY_BYTES), self._moves),
            )
        )
        self._opened = True
        self.key, self._moves = bytes.fromhex(reply["key"]), reply["moves"]
        if reply["levels"] is not False:
            pairs = _pairs(reply["levels"])
            self.levels = {name: float(level) for name, level in pairs.items()}
        return reply

    def _ask(self, name: str, stage: Stage[Any], users: set[str]) -> Mapping[str, Any]:
        known = self._known.get(name, _Known())
        if known.since != stage.since:
            known = _Known(stage.since)
        asked: dict[str, Any] = {
            "name": name,
            "since": str(stage.since),
            "revision": known.revision,
            "users": list(users - known.users),
        }
        if stage.golden is not None:
            asked |= {"golden": json.dumps(stage.golden), "failed": not stage.golden["proven"]}
        if stage.judges:
            spared = sorted(stage.trial.spared)
            asked["found"] = json.dumps({"disputed": stage.trial.disputed, "spared": spared})
        return asked

    def _take_stage(self, stage: Stage[Any], found: Mapping[str, Any]) -> None:
        stage.judges = found["judges"]
        if (revision := found.get("revision")) is None:
            return
        self._known[found["name"]] = _Known(stage.since, revision, frozenset(found["users"]))
        stage.trial.resume(_counts(stage, found))
        if found["golden"]:
            stage.golden = json.loads(found["golden"])
        if found["found"]:
            notes = json.loads(found["found"])
            stage.trial.disputed, stage.trial.spared = (
                tuple(notes["disputed"]),
                set(notes["spared"]),
            )

    async def _append(self, change: Change) -> Change:
        number = len(self._lines)
        change, line = sealed(change, number + 1, self.head)
        since = change.number if change.begins else ""
        judged = "judged" if change.judged else ""
        self._written = line
        answer = await self._scripts.run(
            scripts.APPEND,
            *(number, self._stored_head, line, digest_of(line), change.name, since),
            *(self._replica, judged),
        )
        self._written = None
        if answer == b"outrun":
            raise Outrun
        if answer == b"lost":
            raise LeaseLost
        self._extend([line], [change], digest_of(line))
        return change

    @property
    def _stored_head(self) -> str:
        """The head as the server has it, which has none of an empty log."""
        return self.head if self._lines else ""

    def _extend(self, lines: Iterable[bytes], changes: Iterable[Change], head: str) -> None:
        self._lines += lines
        self.changes += changes
        self.head = head

    async def _follow(self, reply: Mapping[str, Any]) -> Heard:
        """Take the lines that others wrote; give back those that the server has lost."""
        known, stored, head = len(self._lines), reply["number"], reply["head"] or FIRST
        if lines := [line.encode() for line in reply["lines"]]:
            try:
                changes, head = read_chain(_PLACE, lines, known, self.head)
            except ConfigurationError:
                return await self._adopt()
            own = [each for line, each in zip(lines, changes, strict=True) if line == self._written]
            self._written = None
            self._extend(lines, changes, head)
            return Heard(True, own)
        if stored == known and head == self.head:
            return Heard()
        if stored < known and head == (digest_of(self._lines[stored - 1]) if stored else FIRST):
            await self._restore(stored, reply["head"] or "")
            return Heard()
        return await self._adopt()

    async def _restore(self, stored: int, head: str) -> None:
        """Give the server the lines after the `stored` first ones, as after a crash of it."""
        lost = [line.decode() for line in self._lines[stored:]]
        running = {
            name: "" if each.successor is None else str(each.since)
            for name, each in standings(self.changes).items()
        }
        message = (json.dumps(lost), self.head, json.dumps(running))
        if await self._scripts.run(scripts.RESTORE, stored, head, *message):
            _log.error("%s: it had lost the last %d changes, and has them again", _PLACE, len(lost))

    async def _adopt(self) -> Heard:
        """Replace the log by the server's, which does not continue it."""
        lines = await self.lines()
        try:
            changes, head = read_chain(_PLACE, lines)
        except ConfigurationError as error:
            raise Unavailable(str(error), code="store_unavailable", retry_after=5) from error
        _log.error("%s: its log is another one than this replica knew, and replaces it", _PLACE)
        self._lines, self.changes = [], []
        self._extend(lines, changes, head)
        return Heard(True)


def read_store(address: str) -> tuple[list[Change], str, Mapping[Version, Tally]]:
    """The log of a store, the digest of its last line, and the tallies; blocks.

    Raises ConfigurationError for a broken chain or an address that cannot be used, Unavailable for
    a store that cannot be reached.
    """

    async def read() -> tuple[list[Change], str, Mapping[Version, Tally]]:
        store = SharedStore(address)
        try:
            lines = await store.lines()
            return *read_chain(_PLACE, lines), await store.tallies()
        finally:
            await store.leave({}, {})

    return asyncio.run(read())


def _collected(name: str, stage: Stage[Any]) -> dict[str, Any]:
    """What a stage has counted since the last time, by tenant."""
    trusted = stage.trial.tenants.trusted
    tenants = [
        {
            "tenant": tenant,
            "trusted": tenant in trusted,
            "tests": {test: [repr(each) for each in numbers] for test, numbers in tests.items()},
        }
        for tenant, tests in stage.trial.collect().items()
    ]
    return {"name": name, "since": str(stage.since), "tenants": tenants}


def _counts(stage: Stage[Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """The stored sums in the form of `Trial.resume`."""
    blanks = stage.trial.blanks()
    groups: dict[str, dict[int, list[float]]] = {name: {} for name in blanks}
    for field, number in _pairs(found["counts"]).items():
        group, place, test = field.split("/", 2)
        if test in blanks:
            own = groups[test].setdefault(int(group), list(blanks[test]))
            own[int(place)] = json.loads(number)
    tests = {
        name: [
            [sum(numbers) for numbers in zip(blanks[name], *own.values(), strict=True)],
            [[group, numbers] for group, numbers in sorted(own.items())],
        ]
        for name, own in groups.items()
    }
    order = _pairs(found["tenants"])
    tenants = sorted(order, key=lambda tenant: int(order[tenant]))
    return {"tenants": [tenants, list(found["users"])], "tests": tests}


def _level(rated: Rated) -> dict[str, Any] | None:
    """The figures by which a script moves a level as `feedback_ledger.moved` does."""
    if (told := rated.told_set) is None or rated.step is None:
        return None
    promised = missing(told.coverage)
    return {
        "name": rated.answer.engine_name,
        "promised": promised,
        "told": told.level,
        "missed": int(rated.rating.label not in told.members),
        "step": rated.step,
        "pull": PULL,
        "most": max(LEVEL_MOST, promised),
    }


def _flat(tally: Tally) -> dict[str, float]:
    """The sums of a tally by field of a hash."""
    sums = tally.kept()
    bins = sums.pop("bins")
    places = (f"bins/{row}/{place}" for row in range(len(bins)) for place in range(3))
    return sums | dict(zip(places, (number for row in bins for number in row), strict=True))


def _tally(fields: Mapping[Any, Any]) -> Tally:
    """The tally with the sums that a hash has."""
    found = Tally()
    for field, number in fields.items():
        name, *place = (field if isinstance(field, str) else field.decode()).split("/")
        if place:
            found.bins[int(place[0])][int(place[1])] = json.loads(number)
        else:
            setattr(found, name, json.loads(number))
    return found


def _pairs(flat: Sequence[Any]) -> dict[Any, Any]:
    """The fields of a hash that a script returned."""
    return dict(zip(flat[::2], flat[1::2], strict=True)) if flat else {}


def _packed(version: Version) -> str:
    return json.dumps(list(version))
