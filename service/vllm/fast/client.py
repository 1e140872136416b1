"""Starting engines that are reached by vLLM's insides."""

from collections.abc import Sequence
from typing import Any

from service.gate.gate import Gate
from service.vllm.fast.engine import FastEngine
from service.vllm.fast.gathered_stats import GatheredStats
from service.vllm.fast.plain.answers import PlainAnswers
from service.vllm.fast.plain.chat import PlainChats
from service.vllm.fast.plain.completion import PlainCompletions
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

    def engine(self, llm: Any, pids: Sequence[int], gate: Gate) -> StockEngine:
        return FastEngine(llm, pids, gate)

    async def shorten(self, surface: Any) -> None:
        chats, completions = PlainChats(surface.chat_handler), PlainCompletions(surface.completions)
        surface.plain_chats = await PlainAnswers.of(surface.client, chats)
        surface.plain_completions = await PlainAnswers.of(surface.client, completions)
