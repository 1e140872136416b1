"""Each repair of vLLM is still needed: a test here fails once vLLM does without it.

Then the module gets an `UNTIL`, or goes. The sampler's, the output layer's, those of thoughts and
of whole conversations have such tests beside their own.
"""

import inspect
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from packaging.version import Version
from torch.distributed import distributed_c10d
from transformers import AutoTokenizer
from vllm import ir
from vllm.distributed.device_communicators.shm_broadcast import SpinCondition
from vllm.entrypoints.anthropic.serving import AnthropicServingMessages
from vllm.entrypoints.openai.chat_completion.protocol import (
    ChatCompletionRequest,
    ChatCompletionResponse,
)
from vllm.lora.ops.torch_ops import bgmv_expand
from vllm.lora.worker_manager import WorkerLoRAManager
from vllm.model_executor.custom_op import CustomOp
from vllm.model_executor.layers import utils
from vllm.model_executor.layers.attention import attention
from vllm.model_executor.layers.attention.attention import Attention
from vllm.model_executor.layers.layernorm import RMSNorm
from vllm.model_executor.layers.linear import LinearBase
from vllm.platforms.cpu import CpuPlatform
from vllm.renderers.base import BaseRenderer
from vllm.renderers.params import TokenizeParams
from vllm.tool_parsers import structural_tag_registry
from vllm.utils.system_utils import get_mp_context
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.engine.input_processor import InputProcessor
from vllm.v1.worker.gpu_model_runner import GPUModelRunner

from service.vllm import patches
from service.vllm.patches import vllm_0_31
from service.vllm.tool_parsers import parser_for
from service.vllm.versions import installed_version
from tools.vllm_environment import window

FOLDER = Path(patches.__file__).parent
NAMES = sorted({file.stem for file in FOLDER.glob("[a-z]*.py")})


@pytest.fixture(scope="module")
def tokenizer(smollm2_folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(smollm2_folder)


@pytest.mark.parametrize("name", NAMES)
def test_a_patch_says_why_it_is_there_and_has_a_test(name: str) -> None:
    patch = import_module(f"service.vllm.patches.{name}")
    assert "vLLM" in (patch.__doc__ or "").partition("\n")[0]
    until = getattr(patch, "UNTIL", None)
    assert until is None or any(Version(each) < Version(until) for each in window())
    assert f"test_{name}_" in Path(__file__).read_text()


def test_vllm_0_31_lacks_what_later_ones_have() -> None:
    """The window's last release that needs this repair is the one before `UNTIL`."""
    needs = Version(installed_version()) < Version(vllm_0_31.UNTIL)
    assert needs is not hasattr(structural_tag_registry, "limit_to_single_tool_call")
    whole = TokenizeParams(max_total_tokens=8, max_output_tokens=3)
    if needs:
        vllm_0_31.lower_max_tokens()
    assert whole.max_input_tokens == 8


def test_adapter_operators_of_vllm_give_a_token_without_adapter_the_last_slots() -> None:
    slots, out = torch.ones(2, 1, 3, 4), torch.zeros(1, 3)
    bgmv_expand(torch.ones(1, 4), slots, out, torch.tensor([-1]))
    assert out.any()


def test_cpu_kernels_of_vllm_are_for_gpus_alone() -> None:
    import_module("vllm.kernels.vllm_c")
    assert "forward_cpu" not in vars(RMSNorm)
    assert not ir.ops.fused_add_rms_norm.impls["vllm_c"].supported
    assert CpuPlatform.opaque_attention_op()
    products = inspect.getsource(utils.dispatch_cpu_unquantized_gemm)
    assert "fp16" not in products
    assert "half" not in products
    amx = "_is_amx_tile_supported()"
    assert f"if not torch.cpu.{amx}" in inspect.getsource(utils.check_cpu_sgl_kernel)


def test_cpu_calls_of_vllm_look_a_batch_up_twice_in_each_layer() -> None:
    assert "__call__" not in {**vars(CustomOp), **vars(LinearBase), **vars(Attention)}
    looked_up = inspect.getsource(attention).count("get_attention_context(layer_name)")
    assert looked_up >= 2


def test_idle_workers_of_vllm_poll_for_a_second() -> None:
    parameters = inspect.signature(SpinCondition.__init__).parameters
    assert parameters["busy_loop_s"].default >= 1


def test_reads_of_adapters_are_not_counted_by_vllm() -> None:
    members = [name for name, _ in inspect.getmembers(WorkerLoRAManager) if "load" in name]
    assert members == ["_load_adapter"]


def test_processes_of_vllm_start_anew_and_poll_for_a_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("VLLM_WORKER_MULTIPROC_METHOD", "spawn")
    assert get_mp_context().get_start_method() == "spawn"
    assert inspect.signature(SpinCondition.__init__).parameters["busy_loop_s"].default == 1


def test_each_group_of_ranks_of_torchs_has_a_thread_of_its_own() -> None:
    made = inspect.getsource(distributed_c10d._new_process_group_helper)
    assert "backend_class = ProcessGroupGloo(" in made
    assert "_devices" not in made


def test_rows_of_unread_prompts_are_rewound_by_an_offset_that_a_cpu_generator_lacks() -> None:
    assert "set_offset" in inspect.getsource(GPUModelRunner)
    with pytest.raises(RuntimeError):
        torch.Generator("cpu").set_offset(0)


def test_structures_are_validated_by_vllms_client() -> None:
    assert "self.structured_outputs_config," in inspect.getsource(InputProcessor)


def test_prompt_tokens_of_vllm_hold_special_ones_that_a_user_spelt(tokenizer: Any) -> None:
    renderer: Any = SimpleNamespace(
        get_tokenizer=lambda: tokenizer,
        _wants_offsets=lambda prompt, params: False,
        _build_tokens_prompt=lambda ids, prompt, **_: ids,
    )
    params: Any = SimpleNamespace(get_encode_kwargs=lambda: {"add_special_tokens": False})
    prompt: Any = {"prompt": f"a {tokenizer.eos_token} b"}
    ids = BaseRenderer._tokenize_prompt(renderer, prompt, params)
    assert tokenizer.eos_token_id in ids


def test_mask_budget_is_no_part_of_vllms_scheduler() -> None:
    assert "time" not in inspect.getsource(Scheduler.get_grammar_bitmask)


def cut_call() -> ChatCompletionResponse:
    """A chat whose call was cut by its maximum, so that its JSON is broken."""
    function = {"name": "weather", "arguments": '{"city": "Os'}
    call = {"id": "1", "type": "function", "function": function}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    return ChatCompletionResponse.model_validate(
        {
            "id": "1",
            "model": "m",
            "choices": [{"index": 0, "message": message, "finish_reason": "length"}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
        }
    )


def test_messages_of_vllm_fail_at_a_call_that_was_cut() -> None:
    convert: Any = AnthropicServingMessages.messages_full_converter
    handler: Any = object.__new__(AnthropicServingMessages)
    with pytest.raises(ValueError, match="Unterminated string"):
        convert(handler, cut_call())


def asked(choice: str) -> ChatCompletionRequest:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    function = {"name": "weather", "parameters": schema}
    return ChatCompletionRequest.model_validate(
        {
            "model": "m",
            "messages": [{"role": "user", "content": "Hi"}],
            "tools": [{"type": "function", "function": function}],
            "tool_choice": choice,
        }
    )


@pytest.fixture
def parser(tokenizer: Any) -> Any:
    kind = parser_for(tokenizer, tool_parser_name="hermes", enable_auto_tools=True)
    assert kind is not None
    request = asked("auto")
    return kind(tokenizer, request.tools, chat_template_kwargs={})


def test_parsers_frame_no_call_where_a_tool_is_not_strict(parser: Any) -> None:
    adjusted = parser.adjust_request(asked("auto"))
    structure = adjusted.extract_structured_outputs()
    assert structure is None or "city" not in str(structure.structural_tag)
