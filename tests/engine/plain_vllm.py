"""Answers of plain vLLM with adapters as they lie in their folders; none of the service runs here.

    python -m tests.engine.plain_vllm MODEL QUESTIONS ANSWERS FOLDER...

A question is {"adapter": name of a folder, "max_tokens": .., "logprobs": .., and "prompt" or
"messages"}; its answer has the ids of the tokens, why it ended, and the likeliest first tokens.
"""

import json
import sys
from pathlib import Path
from typing import Any

from vllm import LLM, SamplingParams
from vllm.lora.request import LoRARequest


def main(model: str, questions: str, answers: str, *folders: str) -> None:
    """Answer the questions of one file into another."""
    adapters = {
        Path(folder).name: LoRARequest(Path(folder).name, number, folder)
        for number, folder in enumerate(folders, start=1)
    }
    llm = LLM(
        model=model, dtype="float32", max_model_len=512, max_num_seqs=4, enforce_eager=True,
        gpu_memory_utilization=0.2, enable_lora=True, max_loras=1, max_lora_rank=8,
    )  # fmt: skip
    asked = json.loads(Path(questions).read_text())
    given = [_answer(llm, each, adapters[each["adapter"]]) for each in asked]
    Path(answers).write_text(json.dumps(given))


def _answer(llm: LLM, asked: dict[str, Any], adapter: LoRARequest) -> dict[str, Any]:
    params = SamplingParams(
        temperature=0, max_tokens=asked["max_tokens"], logprobs=asked.get("logprobs")
    )
    if "prompt" in asked:
        (output,) = llm.generate(asked["prompt"], params, lora_request=adapter, use_tqdm=False)
    else:
        (output,) = llm.chat(asked["messages"], params, lora_request=adapter, use_tqdm=False)
    (answer,) = output.outputs
    top = {} if answer.logprobs is None else answer.logprobs[0]
    return {
        "tokens": list(answer.token_ids),
        "finish_reason": answer.finish_reason,
        "top": [[token, each.logprob] for token, each in top.items()],
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
