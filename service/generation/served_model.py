"""A language model as the service uses it: an admitted engine, with its texts and chats."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from service.admission.admitted import Admitted, StreamObserver
from service.admission.controller import AdmissionController
from service.admission.preparation import Preparation
from service.context import RequestContext, SinkWrappers, current_context
from service.context.answer import Answer, Guarded
from service.engine.contract import (
    Adapter,
    Job,
    LabelLogprobs,
    LabelQuery,
    LanguageEngine,
    ModelInfo,
    Sampling,
    Sink,
    Structures,
)
from service.engine.texts import (
    ChatFormat,
    Message,
    Reading,
    Texts,
    size_of,
    size_of_chat,
    size_of_tokens,
)
from service.errors import InvalidRequest

_READING = Reading()


class ServedModel:
    """One language model, whatever its engine, which the service starts, warms up and stops.

    All requests reach an engine through it: `run` for generations, `label_logprobs` for labels.
    """

    def __init__(
        self,
        engine: LanguageEngine,
        texts: Texts,
        chats: ChatFormat,
        structures: Structures,
        admission: AdmissionController,
        observer: StreamObserver,
        preparation: Preparation,
    ) -> None:
        self._engine = engine
        self._admitted = Admitted(engine, admission, observer)
        self.texts = texts
        self.chats = chats
        self._structures = structures
        self._admission = admission
        self._preparation = preparation
        self.prepare = preparation.run
        self.prepare_prompt = preparation.run_prompt
        self.encode = texts.encode
        self.encode_template = texts.encode_template
        self.decode = texts.decode
        self.chat_frame = texts.chat_frame
        self.start_token_ids = texts.start_token_ids
        self.end_token_ids = texts.end_token_ids
        self.load_adapter, self.unload_adapter = engine.load, engine.unload
        self.resident_adapters, self.adapter_usage = engine.resident, engine.adapters
        self.vitals, self.probe, self.check = engine.vitals, engine.probe, engine.check

    @property
    def model(self) -> ModelInfo:
        """The base model as served."""
        return self._engine.model

    def refuse_early(self) -> None:
        """Raise as `AdmissionController.refuse_early` for the current request."""
        self._admission.refuse_early(current_context())

    async def render(
        self, prompt: str | Sequence[int], reading: Reading | None = None
    ) -> list[int]:
        """Tokenise a plain prompt, or check the tokens of one."""
        size = size_of(prompt) if isinstance(prompt, str) else size_of_tokens(prompt)
        work = partial(self.texts.render, prompt, reading or _READING)
        return await self._preparation.run_prompt(size, work)

    async def render_chat(self, messages: Sequence[Message]) -> list[int]:
        """Apply the model's chat template and tokenise, ready for the assistant's answer."""
        work = partial(self.texts.render_chat, messages)
        return await self._preparation.run_prompt(size_of_chat(messages), work)

    async def run(self, job: Job, sink: Sink) -> None:
        """Run a generation as a part of the current request, and pass its outputs to a sink.

        Compiles a structure first, and notes in the job what it does not enforce; has the request's
        guard check the answer before the sink, in its wrappers, gets it.
        """
        context = current_context()
        job.sampling = self._settled(job)
        if (wrappers := context.extension(SinkWrappers)) is not None:
            for wrap in wrappers.wrap:
                sink = wrap(job, sink)
        if job.sampling.structure is None:
            await self._run_read(job, sink, context)
            return
        async with self._structures.compiled(job.sampling) as sampling:
            if sampling.structure is not None and sampling.structure.unenforced:
                left = sampling.structure.unenforced
                asked = replace(job.sampling.structure, unenforced=left)
                job.sampling = replace(job.sampling, structure=asked)
                context.extended(Answer).unenforced = left
            await self._run_read(replace(job, sampling=sampling), sink, context)

    async def _run_read(self, job: Job, sink: Sink, context: RequestContext) -> None:
        """Run a job, with the request's guard checking the answer if it has one."""
        guarded = context.extension(Guarded)
        if guarded is None or guarded.answer is None:
            await self._admitted.run(job, sink)
            return
        await guarded.answer.run(partial(self._admitted.run, job), sink, job.sampling)

    def _settled(self, job: Job) -> Sampling:
        """The sampling, with `max_tokens` lowered to what context and model allow."""
        model, asked = self.model, job.sampling.max_tokens
        room = model.max_model_len - len(job.prompt)
        if room < 1:
            raise InvalidRequest(
                f"prompt: its {len(job.prompt)} tokens leave no room for an answer in the model's "
                f"context of {model.max_model_len}",
                code="context_length_exceeded",
            )
        wanted = asked if asked is not None else model.sampling_defaults.get("max_tokens")
        most = min(each for each in (room, wanted, model.most_new_tokens) if each is not None)
        return job.sampling if most == asked else replace(job.sampling, max_tokens=most)

    async def label_logprobs(
        self, prompt: list[int], token_ids: Sequence[int], adapter: Adapter | None
    ) -> LabelLogprobs:
        """Log-probabilities of at most MAX_READ_IDS tokens as the next one."""
        return await self._admitted.logprobs(LabelQuery(prompt, tuple(token_ids), adapter=adapter))

    @property
    def last_step(self) -> float:
        """Time of the engine's last step, in seconds of `time.monotonic`."""
        return self._engine.last_step

    async def warm_up(self) -> None:
        """Take each path of the engine once, past admission control."""
        await self._engine.warm_up()

    async def stop(self) -> None:
        """End the engine and free what it holds."""
        await self._engine.stop()
        self._preparation.stop()
        self._structures.stop()
