"""The ranks of an engine: the copies of a model behind one client of vLLM.

vLLM's client sends each request to one rank, and each control call to all of them.
"""

from collections.abc import AsyncGenerator
from typing import Any


class OnRank:
    """vLLM's client, whose generations all go to one rank."""

    def __init__(self, llm: Any, rank: int | None) -> None:
        self._llm = llm
        self._rank = rank

    def __getattr__(self, name: str) -> Any:
        return getattr(self._llm, name)

    def generate(self, *arguments: Any, **options: Any) -> AsyncGenerator[Any, None]:
        """As AsyncLLM's."""
        found: AsyncGenerator[Any, None] = self._llm.generate(
            *arguments, **options, data_parallel_rank=self._rank
        )
        return found


def on_each_rank(llm: Any) -> list[OnRank]:
    """The client for each rank that it reaches: one, unless vLLM balances several behind it."""
    parallel = llm.vllm_config.parallel_config
    if parallel.data_parallel_external_lb or parallel.data_parallel_size == 1:
        return [OnRank(llm, None)]
    return [OnRank(llm, rank) for rank in range(parallel.data_parallel_size)]
