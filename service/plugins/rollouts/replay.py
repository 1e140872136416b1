"""Records callers' generations, so that another version can be asked the same."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from service.context.answer import ReplayText
from service.engine.contract import Job, Output, Sampling, Sink, TextSink


@dataclass(slots=True)
class ReplayGeneration:
    """The first generation of a request and the token ids of its first answer, for a replay.

    `repeatable` is true if the model would give the same tokens again: the sampling is greedy or
    has a seed. `cut` is true if the structured output was cut off, None without structured output.
    """

    prompt: Sequence[int] = field(default=(), repr=False)
    sampling: Sampling | None = field(default=None, repr=False)
    repeatable: bool = False
    tokens: list[int] = field(default_factory=list, repr=False)
    cut: bool | None = None

    def record(self, job: Job, sink: Sink) -> Sink:
        """The sink of a job: one that records the answer, if the job is the request's first."""
        if self.sampling is not None:
            return sink
        self.prompt, self.sampling = job.prompt, job.sampling
        self.repeatable = job.sampling.temperature == 0 or job.sampling.seed is not None
        return _Recording(sink, self, job.sampling)

    @property
    def answered(self) -> bool:
        """True once there are tokens."""
        return bool(self.tokens)


Replay = ReplayText | ReplayGeneration


class _Recording:
    """Records the tokens of the first answer, and forwards all outputs."""

    def __init__(self, sink: Sink, record: ReplayGeneration, sampling: Sampling) -> None:
        self._sink = sink
        self._record = record
        self._structured = sampling.structure is not None and sampling.structure.asked
        self.restart: Callable[[], None] | None = self._restart if sink.restart else None

    def take(self, output: Output) -> TextSink | None:
        """Take an output, and ask for later outputs with their tokens."""
        for part in output.parts:
            if part.index == 0:
                self._record.tokens += part.token_ids
                if self._structured and part.finish_reason is not None:
                    self._record.cut = part.finish_reason == "length"
        self._sink.take(output)
        return None

    def _restart(self) -> None:
        assert self._sink.restart is not None
        self._record.tokens.clear()
        self._sink.restart()
