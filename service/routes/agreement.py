"""Agreement of sampled answers with the greedy one of a POST /v1/generate."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from service.adapters.agreement import agreement
from service.adapters.confidence import Match, Siblings
from service.context import RequestContext
from service.context.answer_guard import Guarded
from service.engine.roles import TextEngine
from service.generation.text import Answer, GenerationRequest, TokenCounts, answers, siblings


@dataclass(frozen=True, slots=True)
class Comparison:
    """Comparison of a request's greedy answer with sampled siblings, which are sent to nobody."""

    drawn: Siblings
    match: Match
    context: RequestContext

    async def collect(
        self, engine: TextEngine, task: GenerationRequest
    ) -> tuple[Sequence[Answer], TokenCounts]:
        """The whole answer with its agreement, and the tokens of all; raises as `collect`.

        The gate admits the answer and its siblings as a whole. An answer that was cut has no
        agreement.
        """
        self.context.parts += self.drawn.samples
        job = await task.prepare(engine)
        (output,), usage = await answers(engine, job)
        if output.confidence is None or output.finish_reason != "stop":
            return [output], usage
        # The guard has read the answer; nobody gets the siblings.
        self.context.extended(Guarded).answer = None
        texts, more = await siblings(engine, job, self.drawn.samples, self.drawn.temperature)
        share = agreement(output.text, texts, self.match)
        measured = replace(output.confidence, agreement=share)
        return [replace(output, confidence=measured)], usage + more
