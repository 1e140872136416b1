"""A scheduler with short steps, which limits the prompt tokens of requests of lower priority."""

from collections.abc import Iterable
from typing import Any

from service.admission.admitted import Rank
from service.vllm.patches.mask_budget import BudgetScheduler

USES = (
    "reads vllm.v1.core.sched.scheduler:Scheduler.need_mamba_block_aligned_split",
    "reads vllm.v1.request:Request.is_prefill_chunk",
)

_PROMPT_TOKENS = 512
"""Most prompt tokens of a step; more prompts at once would all wait for the last one."""

_TOKENS = 96
"""Least prompt tokens of later ranks in a step; they take as long as 48 tokens that are decoded."""

_STEP = 160
"""Tokens of a step that reads such prompts; a decoding sequence counts as two prompt tokens."""

_MOST_HELD = 4
"""The most steps in a row that read no prompt of a later rank."""

_DECODES_WAIT = 0.2
"""Largest share of steps without decoding requests; each costs the time of an empty step."""

_MOST_IN_A_ROW = 2
"""The most steps in a row that leave out decoding requests."""


class PacedScheduler(BudgetScheduler):
    """vLLM's scheduler, with short steps, and shorter ones for tenants above their share.

    On the CPU build a step takes longer with each token, a new request waits for the running step
    and then for its own, and a running one gets no token meanwhile. A step therefore reads at most
    `_PROMPT_TOKENS` of prompts. A request's rank is its priority (`Rank`). A step processes prompts
    either of the first rank or of later ranks; of later ranks only `_TOKENS` to `_STEP`, less with
    more decoding sequences. Prompts of the first rank go first, but after `_MOST_HELD` such steps
    the later ranks get one. While steps with prompts of the first rank are rare, these steps also
    skip the decoding of later ranks. Flex requests that are alone in the engine have no limit.
    """

    max_num_scheduled_tokens: int
    _held = 0
    _decodes_wait = 0.0

    def schedule(self, throttle_prefills: bool = False) -> Any:
        self._decodes_wait = min(self._decodes_wait + _DECODES_WAIT, _MOST_IN_A_ROW)
        most = self.max_num_scheduled_tokens
        held, step_tokens = self._plan() if self._paces() else ([], most)
        self.max_num_scheduled_tokens = min(most, step_tokens)
        try:
            return self._schedule_without(held, throttle_prefills)
        finally:
            self.max_num_scheduled_tokens = most

    def _paces(self) -> bool:
        """False with flex requests alone, or if prompts cannot be read in parts."""
        config = self.scheduler_config
        if not config.enable_chunked_prefill or config.disable_chunked_mm_input:
            return False
        if self.need_mamba_block_aligned_split:
            return False
        return any(each.priority != Rank.FLEX for each in self.requests.values())

    def _plan(self) -> tuple[list[Any], int]:
        """The requests that the next step leaves out, and its number of tokens."""
        unread = [each for each in self.running if each.is_prefill_chunk]
        unread += self.waiting
        first = [each for each in unread if each.priority == Rank.WITHIN_SHARE]
        # vLLM shares out the tokens of a step in this order.
        self.running.sort(key=lambda request: request.is_prefill_chunk)
        decoding = self._decoding()
        if first and self._held < _MOST_HELD:
            held = self._later(unread)
            self._held = self._held + 1 if held else 0
            return held, decoding + _PROMPT_TOKENS
        self._held = 0
        return first, decoding + max(_TOKENS, _STEP - 2 * decoding)

    def _later(self, unread: Iterable[Any]) -> list[Any]:
        """Requests of later ranks that a step for the first rank leaves out."""
        later = [each for each in unread if each.priority != Rank.WITHIN_SHARE]
        if self._decodes_wait < 1 or not self._running_may_skip():
            return later
        running = [each for each in self.running if each.priority != Rank.WITHIN_SHARE]
        decoding = [each for each in running if not each.is_prefill_chunk]
        self._decodes_wait -= bool(decoding)
        return later + decoding

    def _decoding(self) -> int:
        """The tokens of the running requests that decode."""
        return sum(
            each.num_tokens_with_spec + each.num_output_placeholders - each.num_computed_tokens
            for each in self.running
            if not each.is_prefill_chunk
        )
