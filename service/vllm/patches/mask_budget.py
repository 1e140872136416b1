"""vLLM bounds neither the time of a structure's mask nor that of all masks of a step.

Before each token vLLM computes the tokens that a structure allows (the mask), for all requests in
one thread, while all other requests wait. So these schedulers have a time budget for the masks of a
step. If the budget is too small for all masks, requests with slow masks take turns. A request whose
masks take too long in total ends with an error. A request's outputs report the time of its masks,
so that the tenant is charged for it.
"""

import logging
import os
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any
from weakref import WeakValueDictionary

from vllm.sampling_params import SamplingParams
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs
from vllm.v1.request import RequestStatus
from vllm.v1.structured_output.backend_types import StructuredOutputGrammar

USES = (
    "reads vllm.v1.core.sched.request_queue:PriorityRequestQueue.remove_requests",
    "reads vllm.v1.core.sched.scheduler:Scheduler.current_step, max_num_scheduled_tokens",
    "calls vllm.v1.core.sched.scheduler:Scheduler.finish_requests",
    "extends vllm.v1.core.sched.scheduler:Scheduler.schedule, update_from_output",
    "fields of vllm.v1.engine:EngineCoreOutput, EngineCoreOutputs",
    "reads vllm.v1.request:Request.next_decode_eligible_step",
)

SECTION = "llm_service"
"""Key of the service's limits in vLLM's `additional_config`: `mask` for one mask and `masks` for
all masks of a request, in seconds."""
SECONDS = "mask_seconds"
"""Key of mask times in seconds: the expected one in `extra_args`, measured ones with outputs."""
TOO_DEAR = "structure_too_large"
DEAD_END = "structure_dead_end"

_STEP_SECONDS = 0.06
"""Time budget for the masks of one step; one mask may begin within it and end later."""
_DEAR_SECONDS = 0.004
"""A request whose slowest mask takes longer is budgeted with that one, not with its last mask."""
_REPORTED_SECONDS = 0.001
_COMPILE_NICE = 10
_BEYOND = 3.0
"""A request ends at once if a mask takes so many times as long as the slowest of its walks."""


def expect(params: SamplingParams, seconds: float) -> None:
    """Tell the engine the walks' slowest mask, if it makes the request count as slow."""
    if seconds > _DEAR_SECONDS:
        params.extra_args = {**(params.extra_args or {}), SECONDS: seconds}


class _Shared:
    """State shared by the requests of one structure."""

    too_dear = False


class TimedGrammar(StructuredOutputGrammar):  # type: ignore[misc] # vLLM is not followed by mypy
    """A request's grammar that measures the CPU time of its masks.

    `end` is the reason why the request must end. When one request of a structure is found to be too
    slow, all requests of the structure end.
    """

    def __init__(
        self, grammar: StructuredOutputGrammar, shared: _Shared, expected: float, most: float
    ) -> None:
        self._grammar, self._shared = grammar, shared
        self._expected, self._most = expected, most
        self._last = 0.0
        self._unreported = 0.0
        self.total = 0.0
        self.served = 0
        """The engine's step in which the last mask was computed."""
        self.end: str | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._grammar, name)

    @property
    def cost(self) -> float:
        """Expected seconds of the next mask."""
        return max(self._last, self._expected)

    def fill_bitmask(self, bitmask: Any, batch_index: int) -> None:
        """Write the mask into a row; all ones if the request must end: its token is dropped."""
        if self._shared.too_dear:
            self.end = TOO_DEAR
            bitmask[batch_index].fill_(-1)
            return
        started = time.thread_time()
        self._grammar.fill_bitmask(bitmask, batch_index)
        self._last = time.thread_time() - started
        self._count(self._last)
        if self._last > self._most:
            self._shared.too_dear, self.end = True, TOO_DEAR
        elif not bitmask[batch_index].any():
            self.end = DEAD_END
            bitmask[batch_index].fill_(-1)

    def accept_tokens(self, request_id: str, tokens: list[int]) -> bool:
        started = time.thread_time()
        accepted: bool = self._grammar.accept_tokens(request_id, tokens)
        self._count(time.thread_time() - started)
        return accepted

    def validate_tokens(self, tokens: list[int]) -> list[int]:
        valid: list[int] = self._grammar.validate_tokens(tokens)
        return valid

    def rollback(self, num_tokens: int) -> None:
        """Undo so many drafted tokens; a dead end met among them does not count for the answer."""
        self._grammar.rollback(num_tokens)
        if self.end == DEAD_END:
            self.end = None

    def is_terminated(self) -> bool:
        return bool(self._grammar.is_terminated())

    def reset(self) -> None:
        self._grammar.reset()

    def take_unreported(self) -> float:
        """Mask seconds since the last report; 0 while there are too few to report."""
        if self._unreported < _REPORTED_SECONDS:
            return 0.0
        seconds, self._unreported = self._unreported, 0.0
        return seconds

    def _count(self, seconds: float) -> None:
        self.total += seconds
        self._unreported += seconds


class BudgetScheduler(Scheduler):  # type: ignore[misc]
    """vLLM's scheduler, which measures and bounds the time of masks."""

    def __init__(self, vllm_config: Any, *arguments: Any, **options: Any) -> None:
        super().__init__(vllm_config, *arguments, **options)
        limits = vllm_config.additional_config.get(SECTION, {})
        self._most_mask = _BEYOND * limits.get("mask", float("inf"))
        self._most_masks = limits.get("masks", float("inf"))
        _compile_behind_steps(self.structured_output_manager)
        for name, message in _LOGGED.items():
            logging.getLogger(name).addFilter(partial(_is_other, message))
        self._timed: dict[str, TimedGrammar] = {}
        self._shared: WeakValueDictionary[Any, _Shared] = WeakValueDictionary()

    def schedule(self, throttle_prefills: bool = False) -> Any:
        return self._schedule_without((), throttle_prefills)

    def get_grammar_bitmask(self, scheduler_output: Any) -> Any:
        if scheduler_output.has_structured_output_requests:
            for request_id in scheduler_output.num_scheduled_tokens:
                request = self.requests.get(request_id)
                if request is not None and request.use_structured_output:
                    self._time(request)
        return super().get_grammar_bitmask(scheduler_output)

    def update_from_output(self, scheduler_output: Any, model_runner_output: Any) -> Any:
        """vLLM's outputs of a step; requests that must end are ended first, without its tokens."""
        if not self._timed:
            return super().update_from_output(scheduler_output, model_runner_output)
        ended = self._end_requests()
        outputs: dict[int, EngineCoreOutputs] = super().update_from_output(
            scheduler_output, model_runner_output
        )
        for client, output in ended:
            outputs.setdefault(client, EngineCoreOutputs(outputs=[])).outputs.append(output)
        for step in outputs.values():
            for output in step.outputs:
                self._report(output)
        for request_id in self._timed.keys() - self.requests.keys():
            del self._timed[request_id]
        return outputs

    def _time(self, request: Any) -> None:
        structured = request.structured_output_request
        grammar = structured.grammar
        if isinstance(grammar, StructuredOutputGrammar) and not isinstance(grammar, TimedGrammar):
            shared = self._shared.setdefault(structured.structured_output_key, _Shared())
            expected = (request.sampling_params.extra_args or {}).get(SECONDS, 0.0)
            grammar = TimedGrammar(grammar, shared, expected, self._most_mask)
            structured.grammar = self._timed[request.request_id] = grammar
        if isinstance(grammar, TimedGrammar):
            grammar.served = self.current_step

    def _end_requests(self) -> list[tuple[int, EngineCoreOutput]]:
        """End the requests that must end; returns each one's client index and last output."""
        for grammar in self._timed.values():
            if grammar.end is None and grammar.total > self._most_masks:
                grammar.end = TOO_DEAR
        ids = [request_id for request_id, grammar in self._timed.items() if grammar.end]
        if not ids:
            return []
        return [
            (
                request.client_index,
                EngineCoreOutput(
                    request_id=request.request_id,
                    new_token_ids=[],
                    finish_reason=request.get_finished_reason(),
                    stop_reason=self._timed[request.request_id].end,
                    events=request.take_events(),
                    trace_headers=request.trace_headers,
                ),
            )
            for request in self.finish_requests(ids, RequestStatus.FINISHED_ERROR)
        ]

    def _report(self, output: EngineCoreOutput) -> None:
        grammar = self._timed.get(output.request_id)
        if grammar is not None and (seconds := grammar.take_unreported()):
            more = output.kv_transfer_params or {}
            output.kv_transfer_params = {**more, SECONDS: seconds}

    def _schedule_without(self, held: Sequence[Any], throttle_prefills: bool) -> Any:
        """Schedule vLLM's next step without `held`, and without requests whose masks do not fit."""
        for each in self.running:
            # Each drafted token has a mask of its own.
            if each.spec_token_ids and self._cost(each) > _DEAR_SECONDS:
                each.spec_token_ids = []
        held = [*held, *self._beyond_budget(held)]
        waiting = [each for each in held if each.status != RequestStatus.RUNNING]
        if held and self._running_may_skip():
            for each in held:
                # `schedule` counts `current_step` up first, so +2 leaves out the step made now.
                each.next_decode_eligible_step = max(
                    each.next_decode_eligible_step, self.current_step + 2
                )
        if waiting:
            self.waiting.remove_requests(waiting)
        try:
            return super().schedule(throttle_prefills)
        finally:
            for each in waiting:
                self.waiting.add_request(each)

    def _beyond_budget(self, held: Sequence[Any]) -> list[Any]:
        """Requests whose masks exceed the next step's budget; longest waits are served first."""
        costs = [
            (request, cost)
            for request in (*self.running, *self.waiting)
            if request.use_structured_output
            and (cost := self._cost(request) * (1 + len(request.spec_token_ids)))
            and request not in held
        ]
        if sum(cost for _, cost in costs) <= _STEP_SECONDS:
            return []
        costs.sort(key=lambda each: self._served(each[0]))
        taken, beyond = 0.0, []
        for request, cost in costs:
            if taken and taken + cost > _STEP_SECONDS * 1.001:
                beyond.append(request)
            else:
                taken += cost
        return beyond

    def _cost(self, request: Any) -> float:
        if (grammar := self._timed.get(request.request_id)) is not None:
            return grammar.cost
        return float((request.sampling_params.extra_args or {}).get(SECONDS, 0.0))

    def _served(self, request: Any) -> int:
        grammar = self._timed.get(request.request_id)
        return grammar.served if grammar else 0

    def _running_may_skip(self) -> bool:
        """False if there are more adapters than slots.

        vLLM counts only the adapters of one step's requests. With one that skips the step, requests
        of too many adapters could run.
        """
        if self.lora_config is None:
            return True
        loras = [each.lora_request for each in self.requests.values()]
        adapters = {each.lora_int_id for each in loras if each is not None}
        return bool(len(adapters) <= self.lora_config.max_loras)


_LOGGED = {
    "vllm.v1.core.sched.scheduler": "Unexpected: grammar rejected tokens",
    "vllm.v1.structured_output.backend_xgrammar": "Failed to advance FSM for request",
}
"""vLLM's loggers and their errors for a request whose fields conflict with its structure.

They are not logged: the caller gets an error, and they contain tokens of its answer.
"""


def _is_other(message: str, record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith(message)


def _compile_behind_steps(manager: Any) -> None:
    """Give the engine's compiling threads, and those that they start, less of the cores than steps.

    A structure that takes a second to compile would keep the threads of a step waiting for cores.
    """
    if (compiling := getattr(manager, "executor", None)) is not None:
        compiling.shutdown(wait=False)
        manager.executor = ThreadPoolExecutor(
            compiling._max_workers, initializer=_give_way, thread_name_prefix="compile"
        )


def _give_way() -> None:
    thread = threading.get_native_id()
    priority = os.getpriority(os.PRIO_PROCESS, thread) + _COMPILE_NICE
    os.setpriority(os.PRIO_PROCESS, thread, min(priority, 19))


class AsyncBudgetScheduler(BudgetScheduler, AsyncScheduler):  # type: ignore[misc]
    """vLLM's scheduler for steps that overlap, with a budget for masks."""
