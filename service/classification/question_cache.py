"""Cache of the latest zero-shot classifiers, each prepared once."""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field
from functools import partial

from service.classification.classifier import Classifier
from service.classification.zero_shot import Question, calibrated, zero_shot
from service.context import current_context
from service.engine.protocol import LabelEngine
from service.errors import DeadlineExceeded

_CAPACITY = 1 << 20
_LEAST_WEIGHT = 4096


@dataclass(slots=True)
class _Entry:
    weight: int
    plain: Classifier | None = None
    calibrated: Classifier | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


_Own = OrderedDict[Question, _Entry]


class QuestionCache:
    """The base model's classifiers by question; the least recently used ones are dropped.

    Tokenising a label set and measuring its prior happen once per question, however many requests
    ask it at the same time. Tenants share no entries, because the time of an answer would reveal
    another's questions. A question counts as the bytes of its text, at least 4 KiB; tokenised they
    take up to 150 times as much memory: 180 MB in all. Above `capacity` the tenant that holds most
    loses its oldest, so that no tenant can displace others' questions.
    """

    def __init__(self, engine: LabelEngine, capacity: int = _CAPACITY) -> None:
        self._engine = engine
        self._capacity = capacity
        self._held: dict[str, _Own] = {}

    async def classifier(self, question: Question, *, calibrate: bool) -> Classifier:
        """The classifier of a question.

        Raises InvalidRequest for labels that cannot be read or a question too long for the
        model's context, DeadlineExceeded, and what `Tokeniser.prepare` and the measuring of the
        prior raise: the next request then measures it anew.
        """
        own = self._held.setdefault(current_context().tenant.cache_domain, OrderedDict())
        entry = self._entry(own, question)
        classifier = entry.calibrated if calibrate else entry.plain
        if classifier is not None:
            return classifier
        # A lock, not a shared task: the reads run as part of one request, and if that is cancelled
        # or refused, the next request in line makes them as part of its own.
        try:
            async with asyncio.timeout(current_context().remaining()), entry.lock:
                plain = entry.plain = entry.plain or await self._build(question)
                if not calibrate:
                    return plain
                entry.calibrated = entry.calibrated or await calibrated(plain)
                return entry.calibrated
        except TimeoutError:
            raise DeadlineExceeded(
                "The deadline passed while the labels were being prepared."
            ) from None
        finally:
            if entry.plain is None and own.get(question) is entry:
                del own[question]

    def _entry(self, own: _Own, question: Question) -> _Entry:
        if entry := own.get(question):
            own.move_to_end(question)
            return entry
        entry = own[question] = _Entry(max(question.size, _LEAST_WEIGHT))
        while sum(map(_weight, self._held.values())) > self._capacity:
            max(self._held.values(), key=_weight).popitem(last=False)
        return entry

    async def _build(self, question: Question) -> Classifier:
        build = partial(zero_shot, self._engine, question)
        return await self._engine.prepare(question.work, build)


def _weight(held: _Own) -> int:
    return sum(entry.weight for entry in held.values())
