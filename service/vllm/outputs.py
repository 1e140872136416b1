"""Outputs of vLLM as the service's own, with the errors that they name."""

from collections import Counter
from typing import Any

from service.engine.contract import Job, Output, Part
from service.engine.protocol import Sampling
from service.errors import InvalidRequest, ServiceError
from service.vllm.grammar_sandbox import dead_end
from service.vllm.patches.mask_budget import SECONDS, TOO_DEAR


class OutputReader:
    """Reads the outputs of one run of a job.

    `adapter_requests` counts the requests that got their first token, by the adapter's engine id.
    """

    def __init__(self, job: Job, adapter_requests: Counter[int]) -> None:
        self.ended_early = False
        """True once the job was ended by an abort, which vLLM tells as a reason of its own."""
        self._sampling = job.sampling
        self._adapter = job.adapter
        self._adapter_requests = adapter_requests
        self._told_prompt = False

    def read(self, output: Any) -> Output:
        """One of vLLM's outputs; raises as `checked`."""
        parts = [
            Part(
                each.index,
                each.text,
                each.token_ids,
                self.checked(each.finish_reason, each.stop_reason),
                each.stop_reason,
                each.logprobs,
            )
            for each in output.outputs
        ]
        self.count()
        return Output(
            parts,
            len(output.prompt_token_ids or ()),
            output.num_cached_tokens or 0,
            getattr(output, "num_cache_creation_tokens", None),
            engine_wait(output.metrics),
            mask_seconds(output.kv_transfer_params),
            self._of_prompt(output.prompt_logprobs),
        )

    def _of_prompt(self, found: Any) -> Any:
        """The prompt's log-probabilities, which vLLM tells with the first output of each sequence.

        With later ones it tells an empty list.
        """
        if not found or self._told_prompt:
            return None
        self._told_prompt = True
        return found

    def checked(self, reason: str | None, stop_reason: int | str | None) -> str | None:
        """The reason of an end; raises InvalidRequest if the job's structure ended it."""
        if reason == "error":
            _raise_for_structure(self._sampling, stop_reason)
            raise ServiceError()
        return "length" if reason == "abort" and self.ended_early else reason

    def count(self) -> None:
        """Count the request among those of its adapter, once."""
        if self._adapter is not None:
            self._adapter_requests[self._adapter.engine_id] += 1
            self._adapter = None


def engine_wait(stats: Any) -> float | None:
    """Seconds that the engine held a request before its first step, by vLLM's statistics."""
    return max(0.0, stats.scheduled_ts - stats.queued_ts) if stats else None


def mask_seconds(told: Any) -> float:
    """The seconds that the engine reports with an output of a dear structure."""
    return float(told[SECONDS]) if told and SECONDS in told else 0.0


def _raise_for_structure(sampling: Sampling, reason: str | int | None) -> None:
    """Raise the error of a request that failed because of its structure.

    Where other fields rule out every token that it allows, the engine takes any.
    """
    if sampling.structure is None:
        return
    if reason == TOO_DEAR:
        raise InvalidRequest(
            "structured output: finding the tokens that it allows next takes too long; alternatives"
            " that begin alike cost most",
            code=TOO_DEAR,
        )
    for name in ("allowed_token_ids", "bad_words"):
        if getattr(sampling, name):
            raise InvalidRequest(
                f"{name}: it rules out every token that the structured output allows next",
                param=name,
            )
    raise dead_end(" that begins as this answer did")
