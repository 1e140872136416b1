"""Arguments of vLLM's that a configuration may set, and those that the service adds."""

import dataclasses
import inspect
import os
import re
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerFast
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.entrypoints.cli.serve import make_arg_parser
from vllm.entrypoints.generate import api_router
from vllm.entrypoints.launchers.api_server import app_state
from vllm.utils.argparse_utils import FlexibleArgumentParser

from service.errors import ConfigurationError
from service.settings.tree import AdapterSettings, ModelSettings, Settings
from service.vllm.argument_names import HANDLERS, REFUSED, check_names
from service.vllm.arguments import engine_config, parse_engine_arguments
from service.vllm.engine import _chat_frame

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
        ("data_parallel_size", 2, "one engine serves one replica"),
        ("data-parallel-size", 2, "one engine serves one replica"),
        ("speculative_config", {"method": "ngram"}, "classification reads log-probabilities"),
        ("spec_model", "x", "classification reads log-probabilities"),
        ("logprobs_mode", "raw_logits", "the model's own log-probabilities"),
        ("disable_log_stats", True, "the watchdog counts"),
        ("default_chat_template_kwargs", {}, "set `model.chat_template_kwargs`"),
        ("ssl_certfile", "x", "only vLLM's own server reads it"),
        ("uvicorn_log_level", "x", "only vLLM's own server reads it"),
        ("tool_parser_plugin", "x", "only vLLM's own server reads it"),
        ("trust_remote_code", True, "code from a model folder is never run"),
        ("trust_request_chat_template", True, "templates from requests are never run"),
        ("enable_log_requests", True, "prompts are never logged"),
        ("enable_log_outputs", True, "completions are never logged"),
        ("disable_fastapi_docs", True, "only vLLM's own server reads it"),
    ],
)
def test_an_argument_without_effect_is_refused_by_name(name: str, value: Any, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"engine\.{name.replace('-', '_')}: .*{reason}"):
        parsed(**{name: value})


def test_an_argument_that_no_tested_version_has_is_refused() -> None:
    check_names(["max_model_len"], {"max_model_len"}, {"max_model_len"}, {"max_model_len"})
    with pytest.raises(ConfigurationError, match="max_model_len: not accepted here; this version"):
        check_names(["max_model_len"], {"max_model_len"}, {"max_model_len"}, {"dtype"})


def test_every_name_is_one_of_vllms() -> None:
    assert REFUSED.keys() - SERVER == set()
    assert HANDLERS - (SERVER - ENGINE) == set()
    assert not HANDLERS & REFUSED.keys()


def test_the_arguments_of_handlers_are_those_that_vllms_handlers_read() -> None:
    source = inspect.getsource(app_state) + inspect.getsource(api_router)
    read = set(re.findall(r"""\bargs(?:\.|, ")(\w+)""", source))
    assert read >= HANDLERS
    # They belong to routes that are not served, or to a log of requests, which is not written.
    unserved = {
        "anthropic_disabled_thinking_effort",
        "cohere_is_reasoning_model",
        "enable_log_deltas",
        "enable_server_load_tracking",
        "max_log_len",
        "sse_keep_alive_interval",
    }
    assert (read & SERVER) - ENGINE - HANDLERS - REFUSED.keys() - unserved == set()


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


@pytest.mark.parametrize("stated", [{}, {"dtype": "auto"}])
def test_a_processor_without_bfloat16_computes_in_float32(
    has_bfloat16: bool, stated: dict[str, Any]
) -> None:
    assert parsed(**stated).dtype == ("auto" if has_bfloat16 else "float32")


def test_a_stated_type_is_kept_and_a_slow_one_is_warned_of(
    has_bfloat16: bool, smollm2_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    arguments = parsed(smollm2_folder, dtype="bfloat16", max_model_len=512, enforce_eager=True)
    assert arguments.dtype == "bfloat16"
    engine_config(arguments)
    warned = "multiplies no bfloat16" in caplog.text
    assert warned is not has_bfloat16
