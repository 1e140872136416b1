"""What one output of vLLM means for a job: its tokens, its end, and the errors that it names."""

from collections import Counter
from typing import Any

from service.engine.contract import Job, Progress
from service.errors import InvalidRequest
from service.vllm.grammar_sandbox import dead_end
from service.vllm.patches.call_frame import asks_for_structure
from service.vllm.patches.mask_budget import SECONDS, TOO_DEAR


class OutputReader:
    """Reads the outputs of one run of a job.

    `adapter_requests` counts the requests that got their first token, by the adapter's engine id.
    """

    def __init__(self, job: Job, adapter_requests: Counter[int]) -> None:
        self.ended_early = False
        """True once the job was ended by an abort, which vLLM tells as a reason of its own."""
        self._params = job.parameters
        self._adapter = job.adapter
        self._adapter_requests = adapter_requests

    def read(self, output: Any) -> Progress:
        """The progress of an output; raises InvalidRequest if its structure ended the job."""
        for each in output.outputs:
            if each.finish_reason == "error":
                _raise_for_structure(self._params, each.stop_reason)
            if each.finish_reason == "abort" and self.ended_early:
                each.finish_reason = "length"
        if self._adapter is not None:
            self._adapter_requests[self._adapter.lora_int_id] += 1
            self._adapter = None  # counted
        return Progress(
            prompt_tokens=len(output.prompt_token_ids or ()),
            cached_tokens=output.num_cached_tokens or 0,
            new_tokens=sum(len(each.token_ids) for each in output.outputs),
            engine_wait=engine_wait(output.metrics),
            cut=self._cut(output),
            mask_seconds=_take_mask_seconds(output),
        )

    def _cut(self, output: Any) -> bool | None:
        """True if an answer of a structure was cut; its grammar holds the others."""
        if not asks_for_structure(self._params):
            return None
        ended = [each.finish_reason for each in output.outputs if each.finish_reason is not None]
        return "length" in ended if ended else None


def engine_wait(stats: Any) -> float | None:
    """Seconds that the engine held a request before its first step, by vLLM's statistics."""
    return max(0.0, stats.scheduled_ts - stats.queued_ts) if stats else None


def _take_mask_seconds(output: Any) -> float:
    """The seconds that the engine reports with an output; nobody else is to see them."""
    if not (told := output.kv_transfer_params) or SECONDS not in told:
        return 0.0
    seconds: float = told.pop(SECONDS)
    output.kv_transfer_params = told or None
    return seconds


def _raise_for_structure(params: Any, reason: str | int | None) -> None:
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
