"""Log-probabilities of prompts where vLLM's operators would take another request's adapter."""

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from vllm.lora.ops.triton_ops.lora_kernel_metadata import LoRAKernelMeta
from vllm.lora.punica_wrapper.punica_gpu import PunicaWrapperGPU

from tests.served.configuration import tiny_config
from tests.served.lora import LoraMaker
from tests.served.server import PATIENT, Server, running_server
from tests.served.tiny import build_tiny_model

PROMPT = "The lake says"


@pytest.fixture(scope="module")
def server(smollm2_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A model with an output layer of its own and an adapter, on vLLM's own operators."""
    root = tmp_path_factory.mktemp("untied")
    build_tiny_model(smollm2_folder, root / "model", tied=False)
    LoraMaker(root / "model", "tiny").write(
        root / "first", name="first", version="1.0.0", seed=1, prompts=[PROMPT], tokens=4
    )
    # Of vLLM's own operators the base has the weights of the last place, which stays empty.
    config = tiny_config(root / "model", max_num_seqs=8, max_loras=2, max_lora_rank=8)
    config |= PATIENT | {
        "cpu": config.get("cpu", {}) | {"grouped_adapters": False},
        "adapters": [{"source": str(root / "first")}],
        "adapter_cache": {"path": str(root / "cache")},
    }
    with running_server(tmp_path_factory.mktemp("server"), config) as running:
        yield running


def asked(server: Server, **fields: Any) -> httpx.Response:
    body = {"prompt": PROMPT, "max_tokens": 2, **fields}
    return httpx.post(f"{server.url}/v1/completions", json=body, timeout=600)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["tiny", "first"])
@pytest.mark.parametrize("stream", [True, False])
def test_they_are_refused(server: Server, model: str, *, stream: bool) -> None:
    for fields in ({"echo": True, "logprobs": 1}, {"prompt_logprobs": 0}):
        refused = asked(server, model=model, stream=stream, **fields)
        assert refused.status_code == 400, refused.text
        assert refused.json()["error"]["param"] == "logprobs"
        assert "limits.echo_logprobs is 0" in refused.json()["error"]["message"]


@pytest.mark.slow
@pytest.mark.parametrize("model", ["tiny", "first"])
def test_all_else_is_answered(server: Server, model: str) -> None:
    for fields in ({"echo": True}, {"logprobs": 2}):
        assert asked(server, model=model, **fields).status_code == 200


def test_vllms_operators_for_gpus_know_the_sampled_rows_alone() -> None:
    """The reason for the refusal; when this fails, read ADR 17."""
    assert "self.prompt_mapping_meta" in inspect.getsource(PunicaWrapperGPU.add_lora_logits)
    sampled, rest_of_prompts = 50, 6
    meta = LoRAKernelMeta.make(max_loras=1, max_num_tokens=1000, device="cpu")
    meta.prepare_tensors(torch.zeros(sampled, dtype=torch.int32))
    # Rows that the kernels would read and write of a tensor that has six.
    _, _, rows, *_ = meta.meta_args(rest_of_prompts, False)
    assert int(rows.max()) == sampled
