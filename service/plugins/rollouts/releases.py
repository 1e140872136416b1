"""All releases of a service: the choice of a request's version, the judgement, and the log."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from service.common.error_messages import quote
from service.context import Ending, Hooks, RequestContext
from service.errors import ConfigurationError, Conflict, NotFound, Unavailable
from service.plugins.rollouts.background import Background, GoldenProof, Rehearsal
from service.plugins.rollouts.canary import Action, Canary, Experiment, Shadow
from service.plugins.rollouts.comparison import Arm
from service.plugins.rollouts.judge import Missed, Observation, observe
from service.plugins.rollouts.log import Change, Event
from service.plugins.rollouts.metrics import DISPUTED, ReleaseMetrics
from service.plugins.rollouts.standing import Drawn, Standing, begun, due, standings
from service.plugins.rollouts.store import Heard, LeaseLost, Outrun, Store
from service.plugins.rollouts.summary import SHOWN_CHANGES, PlanSummary, Summary, evidence
from service.plugins.rollouts.trial import Verdict

_log = logging.getLogger(__name__)
TICK_SECONDS = 5.0


class Releases:
    """Gives requests their versions, judges the answers, and logs the decisions.

    Only the log decides which version a name stands for. Of replicas that share a store one judges
    each release, and all follow the log within a second or two; while the store cannot be reached,
    a replica serves the stages it last knew, and decides nothing.
    """

    def __init__(self, store: Store, missed: Missed, metrics: ReleaseMetrics) -> None:
        self._store = store
        self._missed = missed
        self._metrics = metrics
        self._background = Background()
        self._standings = standings(store.changes)
        self._experiments: Mapping[str, Experiment] = {}
        self._stages: dict[str, Canary | Shadow] = {}
        self._users: defaultdict[str, set[str]] = defaultdict(set)
        self._apply: Callable[[], None] = lambda: None
        self._writing = asyncio.Lock()
        self._decided = asyncio.Event()
        self._disputed = set[str]()
        self._up = True

    def live(self, name: str) -> str | None:
        """Digest of the version that a release made live; None for the configured version."""
        standing = self._standing(name)
        return standing.live if standing.released else None

    def route(self, name: str, context: RequestContext) -> str:
        """The name of the version that answers a request for `name`; the answer is then judged."""
        if name in self._experiments:
            self._users[name].add(context.tenant.name)
        stage = self._stages.get(name)
        if isinstance(stage, Shadow):
            compared = partial(self._compared, name, stage, context.tenant.name)
            self._background.follow(stage, context, compared)
        if not isinstance(stage, Canary) or (arm := stage.arm(context)) is None:
            return name
        context.extend(Drawn(stage.since))
        self._follow(name, stage, arm, context)
        return stage.new.exact if arm == "new" else name

    def rate(self, name: str, since: int, digest: str, score: float, tenant: str) -> None:
        """Judge a version by a tenant's rating of an answer: 1 for right, 0 for wrong.

        `since` is the log's entry that began the step in which the answer was given; the rating
        counts only while this step lasts.
        """
        stage = self._stages.get(name)
        if isinstance(stage, Canary) and stage.since == since:
            if stage.rate(digest, score, tenant):
                self._decided.set()

    @contextmanager
    def rehearsed(self, rehearsal: Rehearsal | None) -> Iterator[None]:
        """While the block runs, or until `stop_background`, ask next versions in the background.

        `rehearsal` is None in a service without adapters.
        """
        self._background.rehearsal = rehearsal
        for name, stage in self._stages.items():
            self._prove(name, stage)
        try:
            yield
        finally:
            self._background.stop()

    def stop_background(self) -> None:
        """Stop asking next versions in the background, because the service drains."""
        self._background.stop()

    async def refresh(self) -> None:
        """Follow what other replicas have decided.

        Raises ConfigurationError for a store that cannot be reached.
        """
        async with self._writing:
            try:
                self._heed(await self._store.refresh())
            except Unavailable as error:
                raise ConfigurationError(f"releases: {error}") from error

    async def configure(
        self, experiments: Mapping[str, Experiment], apply: Callable[[], None]
    ) -> None:
        """Begin with these versions and plans;

        names of quarantined adapters keep their present versions. `apply` is called now and after
        each change, to update the versions of names. Raises ConfigurationError for a log that
        cannot be written.
        """
        async with self._writing:
            try:
                while not await self._commit(self._all_due(experiments), self._stand):
                    pass  # another replica was first, and has perhaps written the same
            except Unavailable as error:
                raise ConfigurationError(f"releases: {error}") from error
            for name in self._stages.keys() - experiments.keys():
                del self._stages[name]
            self._experiments, self._apply = experiments, apply
            self._begin_all()

    async def run(self) -> None:
        """Write decisions and counts, and follow other replicas, until cancelled.

        What fails is tried again.
        """
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(min(TICK_SECONDS, self._store.pause_seconds)):
                    await self._decided.wait()
            self._decided.clear()
            try:
                async with self._writing:
                    await self._settle()
                    self._heed(await self._store.sync(self._stages, self._users))
                    await self._judge()
                self._show_store(up=True)
            except Unavailable as error:
                self._show_store(up=False, why=str(error))
            except Exception:
                _log.exception("releases: a look failed; the next one is soon")
            self._show_states()

    async def act(self, name: str, action: Action, person: str) -> PlanSummary:
        """Carry out an operator's order;

        returns the plan's new state. Raises NotFound for a name without a plan, Conflict if the
        state does not allow the action, Unavailable if the log cannot be written. In the last case
        a rollback has taken effect nevertheless, unless replicas share the log.
        """
        async with self._writing:
            self._heed(await self._store.refresh())
            experiment, stage = self._experiments.get(name), self._stages.get(name)
            state = None if experiment is None else experiment.state(self._standing(name))
            if experiment is None or state is None:
                raise NotFound(f"no release of {quote(name)} is planned", code="release_not_found")
            tests = [] if stage is None else stage.trial.tests()
            seen = await asyncio.to_thread(evidence, tests)
            changes = experiment.asked(name, action, state, f"person:{person}", seen)
            if not await self._commit(changes, self._take_effect):
                raise Conflict(
                    f"{action}: the release of {quote(name)} has just changed; look again"
                )
            return self._plan(name)

    def summary(self) -> Summary:
        """Every plan with its tests, and the last changes."""
        planned = [self._plan(name) for name, each in self._experiments.items() if each.plan]
        return Summary(planned, tuple(self._store.changes[-SHOWN_CHANGES:]), self._store.head)

    async def leave(self) -> None:
        """Hand the counts, and the releases that this replica judges, over to other replicas."""
        async with self._writing:
            await self._store.leave(self._stages, self._users)

    def close(self) -> None:
        """Write the counts and close the log; blocks."""
        self._store.close(self._stages)

    def _follow(self, name: str, canary: Canary, arm: Arm, context: RequestContext) -> None:
        """Judge a request from its first text on, and again at its end."""
        before: Observation | None = None

        def count(ending: Ending | None = None) -> None:
            nonlocal before
            now = observe(context, ending, self._missed)
            if now is None or now == before or canary is not self._stages.get(name):
                return
            if before is None:
                self._metrics.judged(name, arm)
            if canary.add(arm, context.tenant.name, now, before):
                self._decided.set()
            before = now

        context.extend(Hooks(count, count))

    def _compared(
        self, name: str, shadow: Shadow, tenant: str, differences: Mapping[str, float] | None
    ) -> None:
        if shadow is not self._stages.get(name):
            return
        self._metrics.shadowed(name, compared=differences is not None)
        if differences is not None and shadow.add(tenant, differences):
            self._decided.set()

    def _prove(self, name: str, stage: Canary | Shadow) -> None:
        """Ask the golden examples of the next version; a failure is harm."""

        def proven(proof: GoldenProof) -> None:
            if stage is not self._stages.get(name):
                return
            stage.golden = {"proven": proof.passed, **proof.told}
            if not self._store.shared and (verdict := stage.golden_verdict()) is not None:
                stage.verdict = verdict
                self._decided.set()

        self._background.prove(stage.new.exact, proven)

    async def _judge(self) -> None:
        """Judge what replicas have counted together, if this one has to."""
        if self._store.shared:
            for stage in [each for each in self._stages.values() if each.judges]:
                stage.verdict = await asyncio.to_thread(stage.look)
            await self._settle()

    async def _settle(self) -> None:
        """Carry out the verdicts, and write owed changes."""
        changes = []
        for name, stage in list(self._stages.items()):
            if (verdict := stage.verdict) is not None:
                seen = await asyncio.to_thread(evidence, verdict.tests)
                changes.append(_verdict(name, stage, verdict, (*seen, *verdict.seen)))
        try:
            await self._commit(changes, self._take_effect)
        finally:
            if self._store.shared:
                for stage in self._stages.values():
                    stage.verdict = None  # judged anew with the next counts, if it still runs

    async def _commit(self, changes: Sequence[Change], effect: Callable[[Change], None]) -> bool:
        """Write changes; False if another replica was first, whose changes are then followed.

        Raises Unavailable if the log cannot be written.
        """
        try:
            await self._store.commit(changes, effect)
        except (LeaseLost, Outrun):
            self._heed(await self._store.refresh())
            return False
        return True

    def _heed(self, heard: Heard) -> None:
        """Follow changes that other replicas wrote."""
        if heard.changed:
            self._standings = standings(self._store.changes)
            for change in heard.own:
                self._tell(change)
            self._begin_all()

    def _begin_all(self) -> None:
        for name in self._experiments:
            self._begin(name)
        self._show()

    def _take_effect(self, change: Change) -> None:
        self._stand(change)
        self._begin(change.name)
        self._show()

    def _stand(self, change: Change) -> None:
        self._standings[change.name] = self._standing(change.name).after(change)
        self._tell(change)

    def _tell(self, change: Change) -> None:
        """Count and log a change, at the one replica that made it."""
        self._metrics.changed(change.name, change.event)
        told = change.name, change.event, change.by, change.before, change.after, change.share
        _log.info("release of %s: %s by %s: %s to %s, share %g", *told)

    def _all_due(self, experiments: Mapping[str, Experiment]) -> list[Change]:
        """The changes that a configuration makes necessary, those of names that are gone first."""
        found = []
        for name in self._standings.keys() - experiments.keys():
            if (live := self._standing(name).live) is not None:
                found.append(Change(name, Event.CONFIGURED, "configuration", live, None))
        for name, experiment in experiments.items():
            found += _due(name, self._standing(name), experiment)
        return found

    def _begin(self, name: str) -> None:
        """Begin the stage that a name is in, from the counts that were kept of it."""
        before = self._stages.pop(name, None)
        stage = self._experiments[name].stage(self._standing(name), self._users[name])
        if stage is None:
            return
        if before is not None and before.same(stage):
            self._stages[name] = before
            return
        self._store.resume(name, stage)
        self._stages[name] = stage
        self._prove(name, stage)

    def _show(self) -> None:
        self._apply()
        self._show_states()

    def _show_states(self) -> None:
        states, disputed = {}, set[str]()
        for name, experiment in self._experiments.items():
            if state := experiment.state(self._standing(name)):
                stage = self._stages.get(name)
                if stage is not None and (stage.trial.disputed or stage.trial.spared):
                    disputed.add(name)
                    state = DISPUTED
                states[name] = state, 0.0 if stage is None else stage.share
        for name in disputed - self._disputed:
            tests = ", ".join(self._stages[name].trial.disputed)
            _log.warning("release of %s: disputed by %s: it waits for a person", name, tests)
        self._disputed = disputed
        self._metrics.planned(states)
        self._metrics.judges({name: stage.judges for name, stage in self._stages.items()})

    def _show_store(self, *, up: bool, why: str = "") -> None:
        """Say once that the store cannot be used, and once that it can again."""
        if up == self._up:
            return
        self._up = up
        self._metrics.store_up(up=up)
        if up:
            _log.info("releases: the store can be used again")
            return
        _log.error("releases: %s Stages stay as they are, and it is tried again", why)
        for stage in self._stages.values():
            stage.judges = not self._store.shared

    def _plan(self, name: str) -> PlanSummary:
        standing, stage = self._standing(name), self._stages.get(name)
        return PlanSummary.of(name, self._experiments[name], standing, stage)

    def _standing(self, name: str) -> Standing:
        return self._standings.get(name, Standing())


def _due(name: str, standing: Standing, experiment: Experiment) -> list[Change]:
    if experiment.configured is None:
        return []
    loaded = experiment.planned is not None
    return due(name, standing, experiment.configured.digest, experiment.plan, loaded=loaded)


def _verdict(
    name: str, stage: Canary | Shadow, verdict: Verdict, seen: tuple[Mapping[str, Any], ...]
) -> Change:
    """The change that a stage's verdict makes."""
    old, new, by = stage.old.digest, stage.new.digest, f"rule:{verdict.rule}"
    if verdict.harm:
        return Change(name, Event.ROLLED_BACK, by, new, old, 1.0, seen)
    if stage.last:
        return Change(name, Event.FULL, by, old, new, 1.0, seen)
    return begun(name, by, stage.plan, stage.index + 1, old, seen)
