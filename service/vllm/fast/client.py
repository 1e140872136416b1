"""Starting engines that are reached by vLLM's insides."""

from collections.abc import Sequence
from typing import Any

from service.vllm.fast.engine import FastEngine
from service.vllm.fast.gathered_stats import GatheredStats
from service.vllm.fast.transport import EngineTransport
from service.vllm.stock import StockClient, StockEngine


class FastClient(StockClient):
    """Starts engines whose sockets the service reads and writes itself."""

    kind = "fast"
    stats = GatheredStats

    def start(self, config: Any, *stat_loggers: Any) -> Any:
        llm = super().start(config, *stat_loggers)
        EngineTransport.replace(llm)
        return llm

    def engine(self, llm: Any, pids: Sequence[int]) -> StockEngine:
        return FastEngine(llm, pids)
