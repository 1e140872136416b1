"""Zero-shot classifiers that were asked for lately, each prepared once."""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field

from service.classification.zero_shot import Question, ZeroShotClassifier
from service.context import current_context
from service.engine.protocol import Engine
from service.errors import DeadlineExceeded

_CAPACITY = 256


@dataclass(slots=True)
class _Entry:
    plain: ZeroShotClassifier
    calibrated: ZeroShotClassifier | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class QuestionCache:
    """The base model's classifiers by question, the least recently used forgotten.

    Tokenising a label set and measuring its prior happen once per question, however many requests
    ask it at the same time. Tenants share nothing: how long an answer takes would tell one what
    another has asked. When all places are taken, the tenant that holds most of them gives one up,
    so that nobody can drive out the questions of others.
    """

    def __init__(self, engine: Engine, capacity: int = _CAPACITY) -> None:
        self._engine = engine
        self._capacity = capacity
        self._held: dict[str, OrderedDict[Question, _Entry]] = {}

    async def classifier(self, question: Question, *, calibrate: bool) -> ZeroShotClassifier:
        """The classifier of a question.

        Raises InvalidRequest for labels that cannot be read or a question too long for the
        model's context, DeadlineExceeded, and what the engine raises while the prior is measured:
        the next request then measures it anew.
        """
        entry = self._entry(question)
        if not calibrate:
            return entry.plain
        if entry.calibrated is None:
            await self._calibrate(entry)
        return entry.calibrated or entry.plain

    def _entry(self, question: Question) -> _Entry:
        own = self._held.setdefault(current_context().tenant.cache_domain, OrderedDict())
        if entry := own.get(question):
            own.move_to_end(question)
            return entry
        entry = own[question] = _Entry(ZeroShotClassifier.build(self._engine, question))
        if sum(map(len, self._held.values())) > self._capacity:
            max(self._held.values(), key=len).popitem(last=False)
        return entry

    async def _calibrate(self, entry: _Entry) -> None:
        # A lock and not a shared task: the reads run as part of the request that makes them, and
        # when it is cancelled or refused the next in line makes them as part of its own.
        try:
            async with asyncio.timeout(current_context().remaining()), entry.lock:
                if entry.calibrated is None:
                    entry.calibrated = await entry.plain.calibrated()
        except TimeoutError:
            raise DeadlineExceeded(
                "The deadline passed while the labels were being calibrated."
            ) from None
