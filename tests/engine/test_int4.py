"""`engine.quantization: cpu_int4`: what rounding changes, and a model that it leaves as it is."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import linear
from transformers import AutoModelForCausalLM, AutoTokenizer
from vllm.model_executor.layers.linear import UnquantizedLinearMethod

from service.vllm.patches.int4 import FEW_TOKENS, Int4Linear, Int8Head
from tests.served.configuration import tiny_config
from tests.served.lora import LoraMaker
from tests.served.server import PATIENT, Server, running_server

PROMPTS = ("The lake says", "The clock says")
BF16_STEP = 2.0**-8


class Layer(torch.nn.Module):  # type: ignore[misc]
    """What vLLM's methods need of a layer of theirs."""

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(weight, requires_grad=False)


def error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """Of the whole, in shares of what is wanted."""
    return float((found - wanted).norm() / wanted.norm())


def made(outputs: int, inputs: int, *, head: bool = False) -> tuple[Layer, torch.Tensor]:
    """A layer with random weights after loading, and these weights."""
    weight = torch.randn(outputs, inputs, generator=torch.Generator().manual_seed(1))
    layer = Layer(weight.clone())
    (Int8Head() if head else Int4Linear()).process_weights_after_loading(layer)
    return layer, weight


def apply(layer: Layer, rows: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    found: torch.Tensor = UnquantizedLinearMethod().apply(layer, rows, bias)
    return found


def test_few_and_many_tokens_meet_the_same_weights() -> None:
    layer, weight = made(96, 64)
    rows = torch.randn(FEW_TOKENS + 1, 64)
    many = apply(layer, rows)
    few = apply(layer, rows[:FEW_TOKENS])
    assert error(few, many[:FEW_TOKENS]) < BF16_STEP
    assert 0.02 < error(many, linear(rows, weight)) < 0.12


def test_weights_of_four_bits_stay_as_they_are() -> None:
    layer, _ = made(32, 64)
    rounded = apply(layer, torch.eye(64))
    again = Layer(rounded.t().contiguous())
    Int4Linear().process_weights_after_loading(again)
    rows = torch.randn(FEW_TOKENS + 1, 64)
    assert error(apply(again, rows), linear(rows, rounded.t())) < 1e-6


def test_a_bias_is_added() -> None:
    layer, _ = made(32, 64)
    rows, bias = torch.randn(2, 64), torch.randn(32)
    assert torch.equal(apply(layer, rows, bias), apply(layer, rows) + bias)
    assert apply(layer, rows.bfloat16(), bias).dtype == torch.bfloat16


def test_weights_that_are_all_alike_are_kept() -> None:
    layer = Layer(torch.zeros(16, 32))
    Int4Linear().process_weights_after_loading(layer)
    assert torch.equal(apply(layer, torch.ones(1, 32)), torch.zeros(1, 16))


@pytest.mark.parametrize(("outputs", "inputs"), [(30, 64), (32, 40)])
def test_shapes_that_the_kernel_does_not_take_stay_as_they_are(outputs: int, inputs: int) -> None:
    layer, weight = made(outputs, inputs)
    rows = torch.randn(2, inputs)
    assert error(apply(layer, rows), linear(rows, weight)) < 1e-6


def test_the_output_layer_keeps_its_weights_and_reads_eight_bits_for_few() -> None:
    layer, weight = made(50, 64, head=True)
    rows = torch.randn(FEW_TOKENS + 1, 64)
    assert torch.equal(layer.weight, weight)
    assert error(apply(layer, rows), linear(rows, weight)) < 1e-6
    assert 1e-4 < error(apply(layer, rows[:1]), linear(rows[:1], weight)) < 0.02


@pytest.fixture(scope="module")
def rounded_folder(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The one-layer model with linear weights of four bits."""
    folder = tmp_path_factory.mktemp("rounded") / "model"
    shutil.copytree(tiny_folder, folder)
    weights = load_file(folder / "model.safetensors")
    for name, weight in weights.items():
        if "_proj." in name:
            layer = Layer(weight.float())
            Int4Linear().process_weights_after_loading(layer)
            unit = torch.eye(weight.shape[1])
            weights[name] = apply(layer, unit).t().to(weight.dtype).contiguous()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def server(rounded_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("adapters")
    maker = LoraMaker(rounded_folder, "tiny")
    maker.write(root / "one", name="one", version="1.0.0", seed=1, prompts=PROMPTS[:1], tokens=6)
    config = tiny_config(rounded_folder, quantization="cpu_int4", max_lora_rank=8)
    config |= PATIENT | {
        "adapters": [{"source": str(root / "one")}],
        "adapter_cache": {"path": str(root / "cache")},
    }
    with running_server(tmp_path_factory.mktemp("server"), config) as running:
        yield running


@pytest.mark.slow
def test_an_adapter_is_proven_on_a_model_of_four_bits(server: Server) -> None:
    listed = httpx.get(f"{server.url}/v1/models").json()["data"]
    assert {each["id"] for each in listed} == {"tiny", "one"}


@pytest.mark.slow
@pytest.mark.parametrize("prompt", [PROMPTS[0], "The lake is so old that " * FEW_TOKENS])
def test_a_model_of_four_bits_answers_as_transformers_does(
    server: Server, rounded_folder: Path, prompt: str
) -> None:
    body = {"model": "tiny", "prompt": prompt, "max_tokens": 1, "temperature": 0, "logprobs": 5}
    found = httpx.post(f"{server.url}/v1/completions", json=body).raise_for_status().json()
    model = AutoModelForCausalLM.from_pretrained(rounded_folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(rounded_folder)
    with torch.inference_mode():
        logits = model(**tokenizer(prompt, return_tensors="pt")).logits[0, -1]
    wanted = {
        tokenizer.decode(each): float(value) for each, value in enumerate(logits.log_softmax(-1))
    }
    top = found["choices"][0]["logprobs"]["top_logprobs"][0]
    assert {text: wanted[text] for text in top} == pytest.approx(top, abs=0.05)
