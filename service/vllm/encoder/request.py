"""One passage as a request to vLLM's pooling runner."""

from collections.abc import AsyncGenerator, Mapping
from typing import Any, TypeAlias

from vllm.outputs import PoolingRequestOutput
from vllm.pooling_params import PoolingParams
from vllm.v1.engine.async_llm import AsyncLLM

from service.engine.contract import Progress
from service.errors import ServiceError
from service.gate.ticket import Demand
from service.vllm.generation import explain

Output: TypeAlias = PoolingRequestOutput[Any]


class Pooling:
    """Implements `gate.stream.EngineRequest`; its cost at the gate is its tokens."""

    def __init__(
        self,
        engine: AsyncLLM,
        prompt: Mapping[str, Any],
        params: PoolingParams,
        request_id: str,
        priority: int,
    ) -> None:
        self._engine = engine
        self._prompt = prompt
        self._params = params
        self._id = request_id
        self._priority = priority
        self.demand = Demand(len(prompt["prompt_token_ids"]), 0)

    def start(self) -> AsyncGenerator[Output, None]:
        stream: AsyncGenerator[Output, None] = self._engine.encode(
            self._prompt, self._params, self._id, priority=self._priority
        )
        return stream

    def progress(self, item: Output) -> Progress:
        return Progress(len(item.prompt_token_ids), item.num_cached_tokens or 0, 0)

    def explain(self, error: Exception) -> ServiceError | None:
        return explain(error)
