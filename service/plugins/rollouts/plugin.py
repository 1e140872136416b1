"""Rollouts as a plugin: versions that go live by themselves, and the feedback that judges them."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, ClassVar, Self

from fastapi import APIRouter, FastAPI
from pydantic import BaseModel, ConfigDict, Field

from service.adapters.choice import Models, Versions
from service.adapters.manifest import ClassificationManifest
from service.adapters.registry import ServedVersion, VersionPairs
from service.common.aio import beside
from service.common.error_messages import quote
from service.common.operations import OPERATIONS
from service.context import RequestContext
from service.engine.pooling import ConformalSets
from service.errors import InvalidRequest, NotFound, UnsupportedFeature
from service.http.json_routes import JsonRoute, TheContext, TheRuntime
from service.plugin import Host, Plugin, Runtime
from service.plugins.rollouts.answer_ids import RatedAnswer
from service.plugins.rollouts.background import Rehearsal
from service.plugins.rollouts.canary import Action, Experiment
from service.plugins.rollouts.feedback import Feedback, FeedbackAnswer, FeedbackRequest
from service.plugins.rollouts.feedback_ledger import Rating
from service.plugins.rollouts.folder_store import FolderStore
from service.plugins.rollouts.metrics import ReleaseMetrics
from service.plugins.rollouts.releases import Releases
from service.plugins.rollouts.settings import FeedbackSettings, ReleaseSettings
from service.plugins.rollouts.shared_store import SharedStore
from service.plugins.rollouts.standing import Candidate
from service.plugins.rollouts.store import Store
from service.plugins.rollouts.summary import Summary, overview_of
from service.runtime.status import Status
from service.settings.tree import Settings
from service.telemetry.metrics import missed_objectives
from service.telemetry.series import considerate

_FEEDBACK_HEADER = "x-feedback-id"

router = APIRouter(route_class=JsonRoute, tags=["adapters"])


class RolloutsPlugin(Plugin):
    """Chooses each request's version, judges the answers, and takes the callers' feedback.

    Releases are enabled if `releases.path` or `releases.storage` is set; feedback is always
    enabled.
    """

    routers = (router,)
    operations: ClassVar = {"/v1/feedback": None}

    @classmethod
    def of(cls, host: Host) -> Self:
        settings = host.settings.section(ReleaseSettings)
        missed = partial(missed_objectives, host.settings.slo)
        store = _open_store(settings)
        releases = None
        if settings.enabled:
            releases = Releases(store, missed, ReleaseMetrics(host.registry))
        of_feedback = host.settings.section(FeedbackSettings)
        feedback = Feedback.of(of_feedback, store, releases, host.registry)
        return cls(releases, feedback, host.status)

    def __init__(self, releases: Releases | None, feedback: Feedback, status: Status) -> None:
        self.feedback = feedback
        self._releases = releases
        self._status = status

    def versions(self) -> Versions:
        return self

    def live(self, name: str) -> str | None:
        """Digest of the version that a release made live; None for the configured version."""
        return None if self._releases is None else self._releases.live(name)

    def route(self, name: str, context: RequestContext) -> str:
        """The name of the version that answers a request for `name`; the answer is then judged."""
        return name if self._releases is None else self._releases.route(name, context)

    def sets(self, context: RequestContext, fitted: ConformalSets) -> ConformalSets:
        """The label sets of a request's version at its present level."""
        return self.feedback.sets(context, fitted)

    async def refresh(self) -> None:
        """Read what other replicas have decided; raises as `Releases.refresh`."""
        if self._releases is not None:
            await self._releases.refresh()

    async def configure(
        self, settings: Settings, pairs: VersionPairs, apply: Callable[[], None]
    ) -> None:
        """Begin with these versions and the settings' plans; raises as `Releases.configure`."""
        if self._releases is None:
            apply()
            return
        plans = settings.section(ReleaseSettings).plans
        experiments = {
            name: Experiment(_candidate(configured), plans.get(name), _candidate(planned))
            for name, (configured, planned) in pairs.items()
        }
        await self._releases.configure(experiments, apply)

    @asynccontextmanager
    async def lifespan(self, service: Runtime) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            if self._releases is not None:
                stack.push_async_callback(self._releases.leave)
                await stack.enter_async_context(beside(self._releases.run()))
                stack.enter_context(self._releases.rehearsed(_rehearsal(service)))
            yield

    def headers(self, context: RequestContext, status: int) -> Mapping[str, str]:
        if status != 200 or context.adapter is None or not OPERATIONS.get(context.route):
            return {}
        found = self.feedback.ids.of(context)
        return {} if found is None else {_FEEDBACK_HEADER: found}

    async def overview(self) -> Mapping[str, Any]:
        if self._releases is None:
            return {}
        summary = self._releases.summary()

        def shown() -> list[dict[str, Any]]:
            with considerate():
                return overview_of(summary)

        return {"releases": await asyncio.to_thread(shown)}

    def drains(self) -> None:
        if self._releases is not None:
            self._releases.stop_background()

    def close(self) -> None:
        if self._releases is not None:
            self._releases.close()

    def add_admin_routes(self, app: FastAPI, may_control: Sequence[Any]) -> None:
        @app.get("/releases")
        async def releases() -> dict[str, Any]:
            """Planned releases: their states, tests and last changes."""
            summary, feedback = await self._status.on_loop(self._told(self._planned()))
            told = await asyncio.to_thread(summary.told)
            return told | {"feedback": feedback}

        @app.post("/releases/{name:path}", dependencies=may_control)
        async def release(name: str, order: ReleaseOrder) -> dict[str, Any]:
            """Roll a release back, promote it to full, or try it again; returns its new state."""
            acting = self._planned().act(name, order.action, order.by)
            plan = await self._status.on_loop(acting)
            return await asyncio.to_thread(plan.told)

    def _planned(self) -> Releases:
        if self._releases is None or self._status.loop is None:
            raise NotFound("no releases: the service is not ready, or none are configured")
        return self._releases

    async def _told(self, releases: Releases) -> tuple[Summary, list[dict[str, Any]]]:
        return releases.summary(), await self.feedback.told()


class ReleaseOrder(BaseModel):
    """An operator's order, with the operator's name, which the log records."""

    model_config = ConfigDict(extra="forbid")

    action: Action
    by: str = Field(pattern=r"^[\w.@ -]{1,64}$")


def _open_store(settings: ReleaseSettings) -> Store:
    """The store that replicas share if `releases.storage` is set, else the one in the folder."""
    if settings.storage is not None:
        return SharedStore(settings.storage)
    return FolderStore(settings.path)


def _candidate(version: ServedVersion | None) -> Candidate | None:
    if version is None:
        return None
    manifest = version.manifest
    labels = manifest.classification.labels if isinstance(manifest, ClassificationManifest) else ()
    return Candidate(version.adapter.digest, version.names[1], tuple(labels))


def _rehearsal(service: Runtime) -> Rehearsal | None:
    model = service.language_model
    if model is None:
        return None
    return Rehearsal(
        model.engine,
        model.registry,
        flex_room=lambda: model.admission.flex_room,
        busy=lambda: model.admission.busy,
        golden_timeout_s=service.settings.golden_timeout_s,
    )


@router.post("/v1/feedback")
async def rate(body: FeedbackRequest, runtime: TheRuntime, context: TheContext) -> FeedbackAnswer:
    """Say whether an answer of the last day was right, by its `X-Feedback-Id`; once."""
    body.check_one()
    feedback = runtime.plugins.get(RolloutsPlugin).feedback
    answer = feedback.ids.read(body.id, context.tenant.name)
    if not runtime.models.may_use(answer.adapter, context.tenant):
        raise NotFound("id: its adapter is not for this caller any more", code="model_not_found")
    rating = _rating(body, answer, runtime.models, context)
    await feedback.rate(answer, rating, context.tenant.name)
    return FeedbackAnswer(model=answer.adapter, version=answer.version, score=rating.score)


def _rating(
    body: FeedbackRequest, answer: RatedAnswer, models: Models, context: TheContext
) -> Rating:
    if body.label is not None:
        if answer.told is None:
            raise UnsupportedFeature(
                "label: this id holds no label, because the answer is generated, may have several "
                "labels, or came in lines, another text first; send `correct` or `score`",
                param="label",
            )
        version = models.adapter(f"{answer.adapter}@{answer.version}", context.tenant)
        names = () if version.classifier is None else version.classifier.names
        if body.label not in names:
            raise InvalidRequest(
                f"label: not one of the labels of {version.names[1]}, got {quote(body.label)}",
                param="label",
            )
        return Rating.by_label(answer.told, names.index(body.label))
    if body.correct is not None:
        return Rating.by_word(answer.told, correct=body.correct)
    return Rating(body.score)
