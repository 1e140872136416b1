"""Cost of vLLM's client of its engine, without a server: one that keeps this client costs more.

    python -m tools.mock_engine --rate 100 tools.client_cost --tokens 1
    python -m tools.mock_engine --rate 30 tools.client_cost --tokens 100

Sends completions to the mock engine, 32 at a time, and prints the CPU time of this process for
each: to tokenise the prompt, send the request, and make the texts of the answer.
"""

import asyncio
import statistics
import time
from itertools import count
from typing import Any

import uvloop
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.sampling_params import RequestOutputKind, SamplingParams
from vllm.v1.engine.async_llm import AsyncLLM

from loadtests.peers import MODEL_FOLDER
from tools.command_line import command_line
from tools.frontend.cases import PROMPT

_STREAMS = 32


def main() -> None:
    """Measure and print."""
    parser = command_line("tools.client_cost", __doc__)
    parser.add_argument("--tokens", type=int, default=1, help="tokens of an answer, default 1")
    parser.add_argument("--rounds", type=int, default=5, help="rounds, default 5")
    parser.add_argument(
        "--requests", type=int, default=1024, help="of a round, a multiple of 32, default 1024"
    )
    options = parser.parse_args()
    rounds = uvloop.run(_rounds(options.tokens, options.requests, options.rounds))
    request = statistics.median(rounds) * 1e6
    print(f"{request:.0f} us a request, {request / options.tokens:.1f} us a token (median)")


async def _rounds(tokens: int, requests: int, rounds: int) -> list[float]:
    """CPU seconds of a request, in each round after one that warms up."""
    arguments = AsyncEngineArgs(model=str(MODEL_FOLDER), max_num_seqs=1024, enforce_eager=True)
    client = AsyncLLM.from_engine_args(arguments)
    names, each = map(str, count()), max(1, requests // _STREAMS)
    kind = RequestOutputKind.DELTA if tokens > 1 else RequestOutputKind.FINAL_ONLY
    sampling = SamplingParams(max_tokens=tokens, output_kind=kind)

    async def stream() -> None:
        for _ in range(each):
            prompts: Any = [{"prompt": PROMPT}]
            (prompt,) = await client.renderer.render_cmpl_async(prompts)
            async for _output in client.generate(prompt, sampling, next(names)):
                pass

    found = []
    for _ in range(rounds + 1):
        before = time.process_time()
        await asyncio.gather(*(stream() for _ in range(_STREAMS)))
        found.append((time.process_time() - before) / (each * _STREAMS))
    client.shutdown()
    return found[1:]


if __name__ == "__main__":
    main()
