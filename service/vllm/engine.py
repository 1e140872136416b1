"""The real engine: vLLM's AsyncLLM behind the service's protocol."""

import logging
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from copy import deepcopy
from dataclasses import fields, replace
from typing import Any

from vllm.exceptions import VLLMClientError
from vllm.inputs import tokens_input
from vllm.renderers import ChatParams
from vllm.sampling_params import RequestOutputKind, SamplingParams, StructuredOutputsParams
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError

from service.engine.chat_texts import ChatTexts
from service.engine.protocol import (
    Adapter,
    AdapterUsage,
    ChatFrame,
    Chunk,
    ChunkSink,
    Delta,
    LabelLogprobs,
    Message,
    ModelInfo,
    Prompt,
    Sampling,
    Structure,
    TextSink,
    TokenLogprob,
    Vitals,
)
from service.engine.text_encoder import TextEncoder, text_decoder, text_encoder
from service.engine.text_size import size_of, size_of_chat
from service.errors import InvalidRequest, ServiceError
from service.gate.gate import Gate
from service.gate.meter import StreamObserver
from service.gate.preparation import Preparation
from service.quoting import quote
from service.settings.tree import Settings
from service.vllm.client import GatedClient
from service.vllm.errors import explain
from service.vllm.generation import Last, lora_request
from service.vllm.grammar_sandbox import GrammarSandbox
from service.vllm.openai import OpenAISurface
from service.vllm.patches.prompt_tokens import PromptTokens
from service.vllm.patches.structure_validation import leave_validation_to_us
from service.vllm.ranks import on_each_rank
from service.vllm.self_check import check_calls, differing
from service.vllm.stat_loggers import StepClock
from service.vllm.stock import StockEngine
from service.vllm.tool_parsers import chat_template
from service.vllm.warm_up import warm_up

USES = (
    "reads vllm.renderers.base:BaseRenderer.get_tokenizer",
    "reads vllm.renderers.base:BaseRenderer.render_chat",
    "reads vllm.renderers.base:BaseRenderer.render_cmpl",
)
"""What of vLLM this module stands on (docs/vllm.md)."""

_log = logging.getLogger(__name__)

_SAME = {field.name for field in fields(Sampling)} - {"stop", "structure"}
"""Sampling parameters that are passed to vLLM unchanged."""
_PLACEHOLDER = "\N{OBJECT REPLACEMENT CHARACTER}"


class VllmEngine:
    """AsyncLLM with the gate in front; has every role of `engine.protocol`."""

    def __init__(
        self,
        llm: AsyncLLM,
        steps: StepClock,
        model: ModelInfo,
        gate: Gate,
        observer: StreamObserver,
        settings: Settings,
        sandbox: GrammarSandbox,
        engine: StockEngine,
    ) -> None:
        self._llm = llm
        self._engine = engine
        self._steps = steps
        self.model = model
        self._preparation = Preparation(gate, settings.preparation)
        self.prepare = self._preparation.run
        self.prepare_prompt = self._preparation.run_prompt
        self._sandbox = sandbox
        self.client = GatedClient(
            llm, engine, gate, observer, self._preparation, sandbox, limits=settings.limits
        )
        leave_validation_to_us(llm)
        tokenizer = llm.renderer.get_tokenizer()
        prompts = PromptTokens.serve(llm.renderer)
        self.encode = _encoder_of_texts(tokenizer, settings, readable=prompts is not None)
        self.encode_template: TextEncoder = (
            prompts.encode if prompts else text_encoder(tokenizer, special_is_text=False)
        )
        self._text = text_decoder(tokenizer)
        variables = settings.base.chat_template_kwargs
        self.chat_frame = _chat_frame(tokenizer, variables)
        options = {**variables, "add_generation_prompt": True, "tokenize": False}
        self._chat = ChatParams(chat_template_kwargs=options)
        self.start_token_ids: tuple[int, ...] = tuple(tokenizer.encode(""))
        # vLLM's grammars end an answer with the end token of the tokenizer only.
        end: int | None = tokenizer.eos_token_id
        self.end_token_ids = () if end is None else (end,)
        self._vocab_size: int = llm.model_config.get_vocab_size()
        self.reads_labels = True
        self.openai: OpenAISurface | None = None

    async def render(self, text: str) -> Prompt:
        def render() -> Prompt:
            (rendered,) = self._llm.renderer.render_cmpl([{"prompt": text}])
            return Prompt(rendered["prompt_token_ids"])

        return await self._rendered(size_of(text), render)

    async def render_chat(self, messages: Sequence[Message]) -> Prompt:
        conversation = [{"role": m.role, "content": m.content} for m in messages]

        def render() -> Prompt:
            _, (rendered,) = self._llm.renderer.render_chat([conversation], self._chat)
            return Prompt(rendered["prompt_token_ids"])

        return await self._rendered(size_of_chat(messages), render)

    async def _rendered(self, size: int, render: Callable[[], Prompt]) -> Prompt:
        try:
            return await self._preparation.run_prompt(size, render)
        except ServiceError:
            raise
        except Exception as error:
            raise explain(error) or error from error

    def decode(self, token_ids: Sequence[int]) -> str:
        for token_id in token_ids:
            if not 0 <= token_id < self._vocab_size:
                raise InvalidRequest(
                    f"tokens: ids are 0..{self._vocab_size - 1}, got {quote(token_id)}",
                    param="tokens",
                )
        return self._text(token_ids)

    async def generate(
        self, prompt: Prompt, sampling: Sampling, adapter: Adapter | None
    ) -> AsyncGenerator[Chunk, None]:
        stream = self.client.stream(
            tokens_input(prompt.token_ids),
            _sampling_params(sampling),
            lora_request=lora_request(adapter),
        )
        async with aclosing(stream):
            async for output in stream:
                yield _chunk(output)

    async def push(
        self, prompt: Prompt, sampling: Sampling, adapter: Adapter | None, sink: ChunkSink
    ) -> None:
        request = self.client.request(
            tokens_input(prompt.token_ids),
            _sampling_params(sampling),
            lora_request=lora_request(adapter),
        )
        await self.client.push(request, _Chunks(sink))

    async def repeat(
        self, prompt: Sequence[int], parameters: object, adapter: Adapter | None
    ) -> None:
        params: Any = deepcopy(parameters)
        params.n, params.output_kind = 1, RequestOutputKind.FINAL_ONLY
        params.logprobs = params.prompt_logprobs = None
        asked, lora = tokens_input(list(prompt)), lora_request(adapter)
        await self.client.push(self.client.request(asked, params, lora_request=lora), Last())

    async def label_logprobs(
        self, prompt: Prompt, token_ids: Sequence[int], adapter: Adapter | None
    ) -> LabelLogprobs:
        return await self.client.read(prompt.token_ids, token_ids, lora_request(adapter))

    async def load_adapter(self, adapter: Adapter) -> None:
        await self._engine.load(adapter)

    async def unload_adapter(self, adapter: Adapter) -> None:
        await self._engine.unload(adapter)

    async def resident_adapters(self) -> frozenset[int]:
        return await self._engine.resident()

    async def adapter_usage(self) -> Mapping[int, AdapterUsage]:
        return await self._engine.adapters()

    @property
    def last_step(self) -> float:
        return self._steps.last_step

    def vitals(self) -> Vitals | None:
        return self._engine.vitals()

    async def probe(self) -> None:
        await self._engine.probe()

    async def warm_up(self) -> None:
        try:
            for llm in on_each_rank(self._llm):
                await warm_up(llm, self._engine.untraced)
        except EngineDeadError as error:
            raise explain(error) or error from error
        await self._check_itself()

    async def _check_itself(self) -> None:
        """Do each kind of work once; what differs from vLLM's public client is left to that one."""
        if found := await differing(self.client, self._engine, labels=self.reads_labels):
            note = f"the fast client answers otherwise: {', '.join(found)}"
            _log.warning("engine.client: the public client is used from now on: %s", note)
            self.client.engine = self._engine.public
            notes = (*self.model.client_notes, note)
            self.model = replace(self.model, client="stock", client_notes=notes)
            if self.openai is not None:
                self.openai.plain_chats = self.openai.plain_completions = None
        if self.openai is not None and self.openai.calls_tools:
            await check_calls(self.openai.chat, self.model.name)

    async def check(self) -> None:
        await self._engine.check()

    async def stop(self) -> None:
        await self._engine.stop()
        self._preparation.stop()
        self._sandbox.stop()


class _Chunks:
    """Takes vLLM's outputs and hands them on as chunks."""

    def __init__(self, sink: ChunkSink) -> None:
        self.restart = sink.restart
        self._sink = sink

    def take(self, output: Any) -> TextSink | None:
        return self._sink.take(_chunk(output))


def _encoder_of_texts(tokenizer: Any, settings: Settings, *, readable: bool) -> TextEncoder:
    """An encoder of texts in which no special token counts, as in chats from now on.

    Without `readable` prompts are tokenised by vLLM, so a chat that spells one will be refused.
    """
    if settings.base.special_tokens_in_messages == "template":
        return text_encoder(tokenizer, special_is_text=True)
    arguments = {key.replace("-", "_"): value for key, value in settings.engine.items()}
    template = chat_template(settings.base.path, arguments.get("chat_template"))
    variables = settings.base.chat_template_kwargs
    chats = ChatTexts(tokenizer, variables, [template], readable=readable)
    tokenizer.apply_chat_template = chats.apply
    if chats.readable:
        return chats.encode
    _log.warning(
        "model.special_tokens_in_messages: this model's tokenizer cannot read special tokens as "
        "text; chats whose texts spell one are refused"
    )
    return text_encoder(tokenizer, special_is_text=True)


def _chat_frame(tokenizer: Any, variables: Mapping[str, Any]) -> ChatFrame:
    if getattr(tokenizer, "chat_template", None) is None:
        return ChatFrame(before=tokenizer.decode(tokenizer.encode("")), after="")
    conversation = [{"role": "user", "content": _PLACEHOLDER}]
    rendered: str = tokenizer.apply_chat_template(
        conversation, **{**variables, "tokenize": False, "add_generation_prompt": True}
    )
    before, _, after = rendered.partition(_PLACEHOLDER)
    return ChatFrame(before, after)


def _sampling_params(sampling: Sampling) -> SamplingParams:
    try:
        return SamplingParams(
            **{name: getattr(sampling, name) for name in _SAME},
            stop=list(sampling.stop),
            structured_outputs=_structured_outputs(sampling.structure),
            output_kind=RequestOutputKind.DELTA,
        )
    except (VLLMClientError, ValueError) as error:
        raise explain(error) or error from error


def _structured_outputs(structure: Structure | None) -> StructuredOutputsParams | None:
    if structure is None:
        return None
    return StructuredOutputsParams(
        json=dict(structure.json_schema) if structure.json_schema is not None else None,
        regex=structure.regex,
        choice=list(structure.choice) if structure.choice is not None else None,
    )


def _chunk(output: Any) -> Chunk:
    return Chunk(
        deltas=[_delta(sequence) for sequence in output.outputs],
        prompt_tokens=len(output.prompt_token_ids or ()),
        cached_tokens=output.num_cached_tokens or 0,
    )


def _delta(sequence: Any) -> Delta:
    return Delta(
        index=sequence.index,
        text=sequence.text,
        tokens=len(sequence.token_ids),
        finish_reason=sequence.finish_reason,
        logprobs=[
            TokenLogprob(
                logprob=place[token_id].logprob,
                top=[entry.logprob for entry in place.values()],
            )
            for token_id, place in zip(sequence.token_ids, sequence.logprobs or (), strict=False)
        ],
    )
