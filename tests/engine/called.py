"""Answers of vLLM's engine in this process, its layers called by vLLM or directly.

    python -m tests.engine.called vllm|directly ANSWERS MODEL [ADAPTER]

It writes the likeliest tokens after a few prompts with their log-probabilities, and how many layers
of the model are called directly.
"""

import json
import sys
from pathlib import Path

from vllm import LLM, SamplingParams
from vllm.lora.request import LoRARequest
from vllm.model_executor.layers.attention.attention import Attention
from vllm.platforms import current_platform

from service.vllm.patches import cpu_calls, cpu_kernels
from service.vllm.patches.adapter_operators import GroupedPunicaWrapper

PROMPTS = [[5, 9, 2, 7, 11], [3] * 40, [8, 1]]
PARAMS = SamplingParams(temperature=0, max_tokens=24, ignore_eos=True, detokenize=False, logprobs=3)


def main(way: str, answers_file: str, model: str, adapter: str = "") -> None:
    """Answer with the base, and with the adapter for every other prompt."""
    cpu_kernels.use_kernels()
    if way == "directly":
        cpu_calls.call_directly()
        cpu_calls.call_directly()
    wrapper = f"{GroupedPunicaWrapper.__module__}.{GroupedPunicaWrapper.__name__}"
    type(current_platform).get_punica_wrapper = classmethod(lambda cls: wrapper)
    llm = LLM(
        model=model, skip_tokenizer_init=True, max_model_len=128, max_num_seqs=4,
        enforce_eager=True, enable_prefix_caching=False, gpu_memory_utilization=0.2,
        enable_lora=bool(adapter), max_lora_rank=8,
    )  # fmt: skip
    lora = LoRARequest("one", 1, adapter) if adapter else None
    answers = []
    for loras in [None], [lora, None, lora]:
        given = loras if len(loras) > 1 else loras * len(PROMPTS)
        prompts = [{"prompt_token_ids": tokens} for tokens in PROMPTS]
        outputs = llm.generate(prompts, PARAMS, use_tqdm=False, lora_request=given)
        for output in outputs:
            found = output.outputs[0].logprobs or []
            answers.append([[[t, p.logprob] for t, p in each.items()] for each in found])
    modules = llm.apply_model(lambda model: list(model.modules()))[0]
    attention = [each for each in modules if isinstance(each, Attention)]
    views = [each.__dict__.get("views_of_cache") for each in attention]
    told = {
        "answers": answers,
        "attention": sum(each is not None and each[1] is not None for each in views),
        "linear": sum("forward" in each.__dict__ for each in modules),
    }
    Path(answers_file).write_text(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
