"""One generation request to vLLM, and vLLM's errors in the service's words."""

import asyncio
import re
import time
from collections import Counter
from collections.abc import AsyncGenerator
from typing import Any

from vllm.config import VllmConfig
from vllm.exceptions import VLLMClientError, VLLMValidationError
from vllm.lora.request import LoRARequest
from vllm.outputs import RequestOutput
from vllm.sampling_params import RequestOutputKind, SamplingParams
from vllm.v1.engine import EngineCoreOutput, EngineCoreRequest, FinishReason
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError
from vllm.v1.engine.output_processor import RequestOutputCollector
from vllm.v1.metrics.stats import IterationStats

from service.context import current_context
from service.context.kept import KeptGeneration
from service.engine.contract import Progress
from service.engine.protocol import Adapter
from service.errors import EngineDead, InvalidRequest, ServiceError
from service.gate.ticket import Demand
from service.limits.openai_fields import CHAT, COMPLETION
from service.vllm.fast.engine_request import message
from service.vllm.grammar_sandbox import dead_end
from service.vllm.mask_budget import SECONDS, TOO_DEAR
from service.vllm.patches.call_frame import asks_for_structure
from service.vllm.rank import Rank

_REASONING = {"reasoning_ended", "reasoning_parser_kwargs"}
"""Options that vLLM's client sets after it has made its request."""
_FIELDS = CHAT.keys() | COMPLETION.keys()
_RULE = re.compile(r"`?([a-z_]+)`? (must|cannot) ")
_TOO_LONG = ("input_tokens", "input_text")
"""vLLM's parameters, which are no fields, where a prompt does not fit the model's context."""


class Generation:
    """One generation request to vLLM; `complete` as its parameters are `message.completed`.

    Without `fast` it uses vLLM's public client alone.
    """

    def __init__(
        self,
        engine: AsyncLLM,
        prompt: Any,
        params: SamplingParams,
        request_id: str,
        options: dict[str, Any],
        adapter_requests: Counter[int],
        kept: KeptGeneration | None = None,
        *,
        complete: bool = False,
        fast: bool = True,
    ) -> None:
        self.params = params
        self._complete = complete
        self._fast = fast
        self._ended_early = False
        self._engine = engine
        self._prompt = prompt
        self._name = request_id
        self._runs = 1
        self._options = options
        self._aborting: asyncio.Task[None] | None = None
        self._adapter = options.get("lora_request")
        self._adapter_requests = adapter_requests
        self._kept = kept

    @property
    def _id(self) -> str:
        return self._name if self._runs == 1 else f"{self._name}-{self._runs}"

    @property
    def demand(self) -> Demand:
        """Demand of the request; not kept, since its callbacks refer to this object."""
        tokens = len(self._prompt["prompt_token_ids"])
        room = max(0, self._engine.model_config.max_model_len - tokens)
        most = self.params.max_tokens or room
        return Demand(tokens, most, self.params.n, cut=self._end, stand_back=self._rank_above_share)

    @property
    def pushable(self) -> bool:
        """True for a stream of one answer."""
        return self.params.output_kind is RequestOutputKind.DELTA and self.params.n == 1

    @property
    def prompt_logprobs(self) -> int:
        """Number of log-probabilities of the prompt that vLLM builds, for all answers together."""
        alternatives: int | None = self.params.prompt_logprobs
        each = 0 if alternatives is None else 1 + alternatives
        return self.demand.slots * self.demand.prompt_tokens * each

    @property
    def whole(self) -> bool:
        """True for an answer that the engine gives in one output."""
        return self.params.output_kind is RequestOutputKind.FINAL_ONLY

    @property
    def steady(self) -> bool:
        """True if `Steps` may take outputs of tokens alone: no stop string can cut their text."""
        return self._at_once and not self.params.stop

    @property
    def _at_once(self) -> bool:
        """True if no interval holds a text back, and no object of each output is needed.

        A request that is kept needs the tokens of all its outputs.
        """
        return self._kept is None and (self.params.stream_interval or 1) == 1

    @property
    def own(self) -> bool:
        """True if `OwnAnswer` can run the request: one answer that holds a text and nothing else.

        vLLM's own objects add up log-probabilities and put several answers together.
        """
        params = self.params
        return (
            self._fast
            and self._at_once
            and params.n == 1
            and params.logprobs is None
            and params.prompt_logprobs is None
            and params.logprob_token_ids is None
            and not params.extra_args
            and self._engine.output_processor.stream_interval == 1
            and not _adds_arrays(self._engine.vllm_config)
        )

    @property
    def prompt_text(self) -> str | None:
        """The prompt's text, where the request names it."""
        text: str | None = self._prompt.get("prompt")
        return text

    def message(self) -> EngineCoreRequest:
        """The request as the engine takes it, under its own name; raises vLLM's errors."""
        options = self._traced_options()
        later = {name: options.pop(name) for name in _REASONING & options.keys()}
        if self._complete:
            made = message(
                self._engine,
                self._id,
                self._prompt["prompt_token_ids"],
                self.params,
                lora=options["lora_request"],
                salt=self._prompt["cache_salt"],
                priority=options["priority"],
                trace_headers=options["trace_headers"],
            )
        else:
            made = self._engine.input_processor.process_inputs(
                self._id, self._prompt, self.params, ("generate",), **options
            )
            made.external_req_id = made.request_id
        for name, value in later.items():
            setattr(made, name, value)
        return made

    def start(self) -> AsyncGenerator[RequestOutput, None]:
        stream: AsyncGenerator[RequestOutput, None] = self._engine.generate(
            self._prompt, self.params, self._id, **self._traced_options()
        )
        return stream

    async def add(self) -> RequestOutputCollector:
        """Make the request; its outputs come to the collector."""
        options = self._traced_options()
        return await self._engine.add_request(self._id, self._prompt, self.params, **options)

    async def abort(self, internal_id: str) -> None:
        """End a request that was added, by the engine's own id."""
        await self._engine.abort(internal_id, internal=True)

    def _rank_above_share(self) -> None:
        self._options = self._options | {"priority": int(Rank.ABOVE_SHARE)}

    def _end(self) -> None:
        """End the request at once, for vLLM's output processor as if it had reached `max_tokens`.

        vLLM's own abort names another reason, which `progress` mends, and keeps the parent of
        several answers.
        """
        if not self._fast:
            self._ended_early = True
            self._aborting = asyncio.get_running_loop().create_task(self._engine.abort(self._id))
            return
        processor = self._engine.output_processor
        ids = list(processor.external_req_ids.get(self._id, (self._id,)))
        ends = [EngineCoreOutput(each, [], finish_reason=FinishReason.LENGTH) for each in ids]
        processor.process_outputs(ends, time.monotonic(), IterationStats())
        abort = self._engine.engine_core.abort_requests_async(ids)
        self._aborting = asyncio.get_running_loop().create_task(abort)

    def renew(self) -> None:
        """Begin another run, under another name: the engine may still know the last one's."""
        self._runs += 1
        if self._kept is not None:
            self._kept.tokens.clear()

    def _traced_options(self) -> dict[str, Any]:
        # A stream gets its own trace headers when it starts.
        trace = current_context().trace
        return {**self._options, **({"trace_headers": trace.headers} if trace else {})}

    def progress(self, item: RequestOutput) -> Progress:
        """Tokens and end of an output; raises InvalidRequest if its structure ended it."""
        for output in item.outputs:
            if output.finish_reason == "error":
                _raise_for_structure(self.params, output.stop_reason)
            if output.finish_reason == "abort" and self._ended_early:
                output.finish_reason = "length"
        if self._adapter is not None:
            self._adapter_requests[self._adapter.lora_int_id] += 1
            self._adapter = None  # counted
        cut = self._cut(item)
        if self._kept is not None:
            self._keep(self._kept, item, cut)
        return Progress(
            prompt_tokens=len(item.prompt_token_ids or ()),
            cached_tokens=item.num_cached_tokens or 0,
            new_tokens=sum(len(output.token_ids) for output in item.outputs),
            engine_wait=engine_wait(item.metrics),
            cut=cut,
            mask_seconds=_take_mask_seconds(item),
        )

    def _cut(self, item: RequestOutput) -> bool | None:
        """True if an answer of a structure was cut; its grammar holds the others."""
        if not asks_for_structure(self.params):
            return None
        ended = [each.finish_reason for each in item.outputs if each.finish_reason is not None]
        return "length" in ended if ended else None

    def _keep(self, kept: KeptGeneration, item: RequestOutput, cut: bool | None) -> None:
        for output in item.outputs:
            if output.index == 0:
                if self.params.output_kind is RequestOutputKind.CUMULATIVE:
                    kept.tokens.clear()
                kept.tokens += output.token_ids
                if cut is not None and output.finish_reason is not None:
                    kept.cut = output.finish_reason == "length"

    def explain(self, error: Exception) -> ServiceError | None:
        return explain(error)


def _adds_arrays(config: VllmConfig) -> bool:
    """True if outputs hold more than tokens and texts."""
    added = config.aux_output_config.enable_return_routed_experts
    return bool(added or config.model_config.return_sampling_mask)


def _take_mask_seconds(item: RequestOutput) -> float:
    """The seconds that the engine reports with an output; nobody else is to see them."""
    if not (told := item.kv_transfer_params) or SECONDS not in told:
        return 0.0
    seconds: float = told.pop(SECONDS)
    item.kv_transfer_params = told or None
    return seconds


def _raise_for_structure(params: SamplingParams, reason: str | int | None) -> None:
    """Raise the error of a request that failed because of its structure.

    Where other fields rule out every token that it allows, the engine takes any.
    """
    if params.structured_outputs is None:
        return
    if reason == TOO_DEAR:
        raise InvalidRequest(
            "structured output: finding the tokens that it allows next takes too long; alternatives"
            " that begin alike cost most",
            code=TOO_DEAR,
        )
    for name in ("allowed_token_ids", "bad_words"):
        if getattr(params, name):
            raise InvalidRequest(
                f"{name}: it rules out every token that the structured output allows next",
                param=name,
            )
    raise dead_end(" that begins as this answer did")


def engine_wait(stats: Any) -> float | None:
    """Seconds that the engine held a request before its first step, by vLLM's statistics."""
    return max(0.0, stats.scheduled_ts - stats.queued_ts) if stats else None


def explain(error: Exception) -> ServiceError | None:
    """The service's error for an error that vLLM raised; None for an unknown one."""
    if isinstance(error, EngineDeadError):
        return EngineDead.midway()
    if isinstance(error, VLLMValidationError):
        return invalid(str(error.args[0]), error.parameter)
    if isinstance(error, EngineGenerateError) and isinstance(error.__cause__, ValueError):
        return invalid(str(error.__cause__), None)
    if isinstance(error, VLLMClientError | ValueError):
        return invalid(str(error), None)
    return None


def invalid(message: str, parameter: str | None) -> InvalidRequest:
    """The error of a request that vLLM refuses; a prompt that does not fit has OpenAI's code."""
    if parameter in _TOO_LONG:
        return InvalidRequest(message, code="context_length_exceeded")
    return InvalidRequest(message, param=parameter or _named(message))


def _named(message: str) -> str | None:
    """The field whose rule a message says, as in vLLM's `top_k must be ...`; None for no field."""
    found = _RULE.match(message)
    return found[1] if found and found[1] in _FIELDS else None


def lora_request(adapter: Adapter | None) -> LoRARequest | None:
    """An adapter as vLLM knows it; None for the base model.

    vLLM treats two requests with one adapter name as equal and hashes name and path into every
    cached block, so each version has its own name.
    """
    if adapter is None:
        return None
    return LoRARequest(
        lora_name=adapter.engine_name, lora_int_id=adapter.engine_id, lora_path=adapter.path
    )
