"""Scheduler of the engine's steps, which reads few tokens of prompts of later ranks in a step."""

from typing import Any

from vllm.v1.core.sched.scheduler import Scheduler

from service.vllm_engine.rank import Rank

_TOKENS = 96
"""Tokens of prompts of later ranks in a step; reading these takes about as long as decoding."""

_MOST_HELD = 4
"""Steps in a row in which no prompt of a later rank is read."""


class PacedScheduler(Scheduler):  # type: ignore[misc] # vLLM is not followed by mypy
    """vLLM's scheduler, with short steps for the requests of tenants within their share.

    On the CPU build a step takes longer with each token of a prompt, and a request waits for the
    running step and then for its own. So a step that reads prompts of the first rank reads none of
    a later rank, but at most `_MOST_HELD` times in a row; other steps read at most `_TOKENS` of
    those. Flex requests alone in the engine are read without a bound.
    """

    max_num_scheduled_tokens: int
    _held = 0

    def schedule(self, throttle_prefills: bool = False) -> Any:
        """The next step, as vLLM's scheduler makes it of the requests that it sees."""
        running = [each for each in self.running if each.is_prefill_chunk and each.priority]
        waiting = [each for each in self.waiting if each.priority]
        if not (running or waiting) or not self._paces():
            self._held = 0
            return super().schedule(throttle_prefills)
        if self._held < _MOST_HELD and self._reads_first_rank():
            self._held += 1
            return self._without(running, waiting, throttle_prefills)
        self._held = 0
        return self._with_few(running, throttle_prefills)

    def _paces(self) -> bool:
        """False for flex alone, and where a part of a prompt may be too small to be read."""
        config = self.scheduler_config
        if not config.enable_chunked_prefill or config.disable_chunked_mm_input:
            return False
        if self.need_mamba_block_aligned_split:
            return False
        return any(each.priority != Rank.FLEX for each in self.requests.values())

    def _reads_first_rank(self) -> bool:
        unread = [each for each in self.running if each.is_prefill_chunk]
        return any(each.priority == Rank.WITHIN_SHARE for each in (*unread, *self.waiting))

    def _without(self, running: list[Any], waiting: list[Any], throttle_prefills: bool) -> Any:
        for each in running:
            each.next_decode_eligible_step = self.current_step + 2  # It skips the coming step.
        self.waiting.remove_requests(waiting)
        try:
            return super().schedule(throttle_prefills)
        finally:
            for each in waiting:
                self.waiting.add_request(each)

    def _with_few(self, running: list[Any], throttle_prefills: bool) -> Any:
        # vLLM gives the budget away in this order, and then to those that wait, by rank.
        self.running.sort(key=running.__contains__)
        first = [each for each in self.waiting if each.priority == Rank.WITHIN_SHARE]
        others = sum(map(_tokens, [*self.running[: len(self.running) - len(running)], *first]))
        most = self.max_num_scheduled_tokens
        self.max_num_scheduled_tokens = min(most, others + _TOKENS)
        try:
            return super().schedule(throttle_prefills)
        finally:
            self.max_num_scheduled_tokens = most


def _tokens(request: Any) -> int:
    """Tokens of a request that its next step computes, cached ones included."""
    wanted = request.num_tokens_with_spec + request.num_output_placeholders
    return int(wanted - request.num_computed_tokens)
