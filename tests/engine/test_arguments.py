"""Arguments of vLLM's that a configuration may set, and those that the service adds."""

import dataclasses
import inspect
import os
import re
import shutil
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import MixtralConfig, PreTrainedTokenizerFast
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.entrypoints.cli.serve import make_arg_parser
from vllm.entrypoints.generate import api_router
from vllm.entrypoints.launchers.api_server import app_state
from vllm.utils.argparse_utils import FlexibleArgumentParser

from service.errors import ConfigurationError
from service.settings import section as platform
from service.settings.adapters import AdapterSettings
from service.settings.encoders import EncoderSettings
from service.settings.tree import ModelSettings, Settings
from service.vllm import chats, model_facts, start, tool_parsers
from service.vllm.argument_checks import (
    BY_STOCK,
    CONNECTORS,
    HANDLERS,
    REFUSED,
    check_names,
    check_opened,
    stock_only,
)
from service.vllm.arguments import engine_config, parse_engine_arguments
from service.vllm.encoder import parse_encoder_arguments
from service.vllm.texts import _chat_frame
from service.vllm.versions import choose, installed_version
from tests.served.tiny import TOKENIZER_FILES
from tools.vllm_environment import served
from training.quantise import quantise_model

SERVER = {action.dest for action in make_arg_parser(FlexibleArgumentParser())._actions} - {"help"}
ENGINE = {field.name for field in dataclasses.fields(AsyncEngineArgs)}


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setattr(os, "environ", os.environ.copy())
        yield


def parsed(folder: Path = Path("/models/base"), adapters: int = 0, **engine: Any) -> Namespace:
    sources = (AdapterSettings(source=f"/adapters/{number}") for number in range(adapters))
    return parse_engine_arguments(
        Settings(
            model=ModelSettings(name="base", path=folder),
            engine=engine,
            adapters=tuple(sources),
        )
    )


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("data_parallel_size_local", 2, "ranks on other nodes"),
        ("data-parallel-hybrid-lb", True, "ranks on other nodes"),
        ("data_parallel_backend", "ray", "one process serves one replica"),
        ("ec_transfer_config", {"ec_connector": "x"}, "requests are text"),
        ("logprobs_mode", "raw_logits", "the model's own log-probabilities"),
        ("disable_log_stats", True, "the watchdog counts"),
        ("default_chat_template_kwargs", {}, "set `model.chat_template_kwargs`"),
        ("ssl_certfile", "x", "only vLLM's own server reads it"),
        ("uvicorn_log_level", "x", "only vLLM's own server reads it"),
        ("tool_parser_plugin", "x", "only vLLM's own server reads it"),
        ("trust_remote_code", True, "code from a model folder is never run"),
        ("trust_request_chat_template", True, "code from requests is never run"),
        ("enable_log_requests", True, "prompts are never logged"),
        ("enable_log_outputs", True, "completions are never logged"),
        ("disable_fastapi_docs", True, "only vLLM's own server reads it"),
    ],
)
def test_an_argument_without_effect_is_refused_by_name(name: str, value: Any, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"engine\.{name.replace('-', '_')}: .*{reason}"):
        parsed(**{name: value})


@pytest.mark.parametrize(
    ("engine", "names"),
    [
        ({"speculative_config": {"method": "ngram"}}, ["speculative_config"]),
        ({"spec-method": "ngram", "spec_tokens": 2}, ["spec_method", "spec_tokens"]),
        ({"data-parallel-size": 2}, ["data_parallel_size"]),
        (
            {"data_parallel_size": 2, "data_parallel_rank": 0},
            ["data_parallel_size", "data_parallel_rank"],
        ),
        ({"kv_offloading_size": 1}, ["kv_offloading_size"]),
        (
            {
                "data_parallel_size": 1,
                "speculative_config": None,
                "data_parallel_external_lb": False,
            },
            [],
        ),
        ({"max_num_seqs": 4}, []),
    ],
)
def test_the_arguments_that_the_public_client_alone_serves(
    engine: dict[str, Any], names: list[str]
) -> None:
    assert stock_only(engine) == names
    chosen = choose("auto", stock_only(engine))
    assert chosen.client == ("stock" if names else "fast")
    assert choose("stock", stock_only(engine)).client == "stock"
    if names:
        refused = ", ".join(rf"engine\.{name}" for name in names)
        with pytest.raises(ConfigurationError, match=f"client: fast does not serve {refused};"):
            choose("fast", stock_only(engine))


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("speculative_config", {"rejection_sample_method": "synthetic"}, "are not the model's"),
        ("speculative_config", "ngram", "must be a mapping"),
        ("kv_transfer_config", {"kv_connector": "ExampleConnector"}, "keys and values of others"),
        ("kv_transfer_config", '{"kv_connector": "NixlConnector"}', "keys and values of others"),
        ("kv_transfer_config", {"kv-connector": "MultiConnector"}, "keys and values of others"),
        (
            "kv_transfer_config",
            {"kv_connector": "OffloadingConnector", "kv_connector_module_path": "own"},
            "code that is named",
        ),
        ("kv_transfer_config", {"kv_connector": "Own"}, "keys and values of others"),
        ("kv_transfer_config", {"kv_connector": "OffloadingConnector"}, "to and from GPUs only"),
        ("kv_offloading_size", 1, "to and from GPUs only"),
        ("distributed_executor_backend", "ray", "current platform cpu does not support ray"),
        ("kv_offloading_backend", "lmcache", "keys and values of others"),
    ],
)
def test_a_value_that_is_not_served_is_refused_with_the_reason(
    name: str, value: Any, reason: str
) -> None:
    with pytest.raises(ConfigurationError, match=rf"engine\.{name}: .*{reason}"):
        parsed(**{name: value})


@pytest.mark.parametrize(
    ("engine", "reason"),
    [
        ({"spec_method": "custom_class", "spec_model": "own.Proposer"}, "custom_class is not"),
        ({"speculative_config": {"model": "own.Proposer"}}, "custom_class is not"),
        ({"data_parallel_size": 2, "data_parallel_rank": 0}, "Non-MoE models do not support"),
    ],
)
def test_what_vllm_makes_of_arguments_is_checked_too(
    smollm2_folder: Path, engine: dict[str, Any], reason: str
) -> None:
    if "data_parallel_rank" not in engine:
        engine = {**engine, "spec_tokens": 2}
    with pytest.raises(ConfigurationError, match=f"engine.*{reason}"):
        engine_config(parsed(smollm2_folder, max_model_len=512, enforce_eager=True, **engine))


@pytest.mark.parametrize("name", sorted(BY_STOCK))
def test_an_encoder_takes_none_of_them(name: str) -> None:
    encoder = EncoderSettings(name="e", path=Path("/models/e"), engine={name: 2})
    with pytest.raises(ConfigurationError, match=rf"engine\.{name}: .*encoders have none"):
        parse_encoder_arguments(encoder)


def test_drafts_may_be_asked_for_in_short(smollm2_folder: Path) -> None:
    arguments = parsed(smollm2_folder, max_model_len=512, spec_method="ngram", spec_tokens=3)
    draft = engine_config(arguments).speculative_config
    assert (draft.method, draft.num_speculative_tokens) == ("ngram", 3)


def test_ranks_of_experts_are_refused_on_the_cpu_build(
    tmp_path: Path, smollm2_folder: Path
) -> None:
    for name in TOKENIZER_FILES:
        shutil.copy(smollm2_folder / name, tmp_path / name)
    sizes = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "num_local_experts": 4}
    MixtralConfig(
        **sizes, **heads, head_dim=32, architectures=["MixtralForCausalLM"]
    ).save_pretrained(tmp_path)
    with pytest.raises(ConfigurationError, match="no tokens between the ranks"):
        engine_config(parsed(tmp_path, max_model_len=512, data_parallel_size=2))


def test_offloading_is_served_on_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "installed", lambda: platform.CUDA)
    check_opened({"kv_offloading_size": 1})
    for name in CONNECTORS:
        check_opened({"kv_transfer_config": {"kv_connector": name}})


def test_an_argument_that_no_tested_version_has_is_refused() -> None:
    check_names(["max_model_len"], {"max_model_len"}, {"max_model_len"}, {"max_model_len"})
    with pytest.raises(ConfigurationError, match="max_model_len: not accepted here; this version"):
        check_names(["max_model_len"], {"max_model_len"}, {"max_model_len"}, {"dtype"})


def test_every_name_is_one_of_vllms() -> None:
    if installed_version() == served():  # an older one lacks some, which are refused all the same
        assert REFUSED.keys() - SERVER == set()
    assert HANDLERS - (SERVER - ENGINE) == set()
    assert BY_STOCK.keys() - ENGINE == set()
    assert not (HANDLERS | BY_STOCK.keys()) & REFUSED.keys()


def test_the_arguments_about_chats_and_answers_are_read_here_as_in_vllms_handlers() -> None:
    own = "".join(map(inspect.getsource, (chats, model_facts, start, tool_parsers)))
    read = set(re.findall(r"arguments\.(\w+)", own)) & SERVER - ENGINE
    assert read - {"default_chat_template_kwargs"} == HANDLERS  # that is a setting of the model's
    source = inspect.getsource(app_state) + inspect.getsource(api_router)
    read = set(re.findall(r"""\bargs(?:\.|, ")(\w+)""", source))
    assert read >= HANDLERS
    # They belong to routes that are not served, to vLLM's own figures in answers, or to its logs of
    # requests and failures, which the service writes itself.
    unserved = {
        "anthropic_disabled_thinking_effort",
        "cohere_is_reasoning_model",
        "enable_log_deltas",
        "enable_per_request_metrics",
        "enable_server_load_tracking",
        "log_error_stack",
        "max_log_len",
        "sse_keep_alive_interval",
    }
    assert (read & SERVER) - ENGINE - HANDLERS - REFUSED.keys() - unserved == set()


def test_an_argument_that_has_no_effect_any_more_is_told_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert parsed(enable_per_request_metrics=True)
    assert "engine.enable_per_request_metrics: without effect" in caplog.text


def test_events_of_the_cache_are_told_to_hold_prompts(caplog: pytest.LogCaptureFixture) -> None:
    check_opened({"kv_events_config": {"enable_kv_cache_events": False}})
    assert not caplog.text
    check_opened({"kv_events_config": {"enable_kv_cache_events": True, "endpoint": "tcp://a:1"}})
    assert "tokens of all tenants' prompts and answers are sent to tcp://a:1" in caplog.text


def test_arguments_that_contradict_each_other_are_refused_before_the_start() -> None:
    with pytest.raises(ConfigurationError, match=r"set engine\.tool_call_parser"):
        parsed(enable_auto_tool_choice=True)
    with pytest.raises(ConfigurationError, match=r"engine: .*chat template"):
        parsed(chat_template="/no/such/file.jinja")


def test_a_value_that_vllm_refuses_is_one_line_about_the_setting(smollm2_folder: Path) -> None:
    with pytest.raises(ConfigurationError) as refused:
        parsed(max_model_len="abc")
    assert str(refused.value) == "engine.max_model_len: invalid value: 'abc'"
    with pytest.raises(ConfigurationError, match=r"\Aengine: User-specified max_model_len.*\Z"):
        engine_config(parsed(smollm2_folder, max_model_len=100_000))


@pytest.mark.parametrize(
    ("adapters", "engine", "expected"),
    [
        (0, {}, (1, None)),
        (3, {}, (4, 4)),
        (64, {}, (8, 65)),
        (3, {"max_loras": 16}, (16, 16)),
        (64, {"max_loras": 2}, (2, 65)),
        (64, {"max_cpu_loras": 10}, (8, 10)),
    ],
)
def test_all_adapters_stay_in_the_hosts_memory(
    adapters: int, engine: dict[str, Any], expected: tuple[int, int | None]
) -> None:
    arguments = parsed(adapters=adapters, **engine)
    assert (arguments.max_loras, arguments.max_cpu_loras) == expected


def test_a_list_that_may_grow_has_room_from_the_start(tmp_path: Path) -> None:
    model = ModelSettings(name="base", path=Path("/models/base"))
    settings = Settings(model=model, adapters_path=tmp_path / "adapters.yaml")
    arguments = parse_engine_arguments(settings)
    assert arguments.enable_lora
    assert (arguments.max_loras, arguments.max_cpu_loras) == (8, 64)


@pytest.mark.parametrize(
    ("files", "engine", "mode"),
    [
        ([], {}, "auto"),
        (["tokenizer.json"], {}, "auto"),
        (["tokenizer.json", "tekken.json"], {}, "hf"),
        (["tokenizer.json", "tokenizer.model.v3"], {"tokenizer_mode": "AUTO"}, "hf"),
        (["tekken.json"], {"tokenizer_mode": "hf"}, "hf"),
        (["tekken.json"], {}, None),
        (["tokenizer.json"], {"tokenizer_mode": "mistral"}, None),
    ],
)
def test_mistrals_own_tokenizer_is_not_chosen(
    tmp_path: Path, files: list[str], engine: dict[str, Any], mode: str | None
) -> None:
    for name in files:
        (tmp_path / name).touch()
    if mode is not None:
        assert parsed(tmp_path, **engine).tokenizer_mode == mode
        return
    with pytest.raises(ConfigurationError, match=r"engine\.tokenizer_mode: Mistral's own"):
        parsed(tmp_path, **engine)


THINKING = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>"
    "{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}"
)


@pytest.mark.parametrize(
    ("variables", "after"),
    [({}, "<assistant>"), ({"enable_thinking": False}, "<assistant><think></think>")],
)
def test_the_templates_variables_reach_chats_and_classification(
    variables: dict[str, Any], after: str
) -> None:
    model = ModelSettings(name="b", path=Path("/models/b"), chat_template_kwargs=variables)
    arguments = parse_engine_arguments(Settings(model=model))
    assert (arguments.default_chat_template_kwargs or {}) == variables
    tokenizer = _tokenizer(THINKING)
    assert _chat_frame(tokenizer, variables).after == after


def test_a_model_without_a_template_has_a_frame() -> None:
    assert _chat_frame(_tokenizer(None), {}).after == ""


def _tokenizer(template: str | None) -> Any:
    from tokenizers import Tokenizer, models

    words = Tokenizer(models.WordLevel({"x": 0}, unk_token="x"))
    return PreTrainedTokenizerFast(tokenizer_object=words, chat_template=template)


@pytest.fixture(params=[True, False], ids=["bfloat16", "no-bfloat16"])
def has_bfloat16(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """A processor with or without AVX-512, by what torch says of it."""
    found = {"architecture": "x86_64", "avx512_bw": request.param}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found)
    return bool(request.param)


@pytest.mark.parametrize("has", ["avx512_vnni", "avx_vnni", "avx2"])
def test_a_model_of_8_bits_needs_a_processor_whose_sums_do_not_overflow(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has: str
) -> None:
    quantise_model(tiny_folder, tmp_path / "small")
    arguments = parsed(tmp_path / "small", max_model_len=512, enforce_eager=True)
    found = {"architecture": "x86_64", has: True, "avx512_bw": True}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found)
    if has == "avx2":
        with pytest.raises(ConfigurationError, match="without VNNI, such sums overflow"):
            engine_config(arguments)
    else:
        engine_config(arguments)


@pytest.mark.parametrize("stated", [{}, {"dtype": "auto"}])
def test_a_processor_without_bfloat16_computes_in_float32(
    has_bfloat16: bool, stated: dict[str, Any]
) -> None:
    assert parsed(**stated).dtype == ("auto" if has_bfloat16 else "float32")


def test_a_stated_type_is_kept(has_bfloat16: bool, smollm2_folder: Path) -> None:
    arguments = parsed(smollm2_folder, dtype="bfloat16", max_model_len=512, enforce_eager=True)
    assert arguments.dtype == "bfloat16"
    engine_config(arguments)
