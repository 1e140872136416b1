"""The remote client: the contract of engines on vLLM's own server, and what adapters do there."""

import asyncio
import json
import shutil
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from pydantic import ValidationError

from loadtests.peers import Model, theirs
from service.admission.controller import AdmissionController
from service.engine.contract import Sampling
from service.errors import ConfigurationError, UnsupportedFeature
from service.generation.served_model import ServedModel
from service.settings.admission import AdmissionSettings
from service.settings.tree import Settings
from service.telemetry.metrics import Metrics
from service.vllm.arguments import engine_config
from service.vllm.remote.start import remote_arguments, start_remote
from service.vllm.served import VllmModel
from service.vllm.start import check_engines
from service.vllm.versions import choose
from tests.engine.contract import (
    CONTRACT,
    STORY,
    Outputs,
    each_token_of_the_prompt_has_them_when_asked_for,
    run,
    uphold,
)
from tests.fleet import vllm_servers
from tests.served.server import PATIENT

SERVED: dict[str, Any] = vllm_servers.SERVED | {"max_model_len": 512}

Remote = tuple[asyncio.Runner, VllmModel, AdmissionController]


@pytest.fixture(scope="module")
def address(tiny_folder: Path) -> Iterator[str]:
    """vLLM's own server of the one-layer model."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(vllm_servers.ALLOWS_LOADING, "1")
        with theirs(tiny_folder, model=Model("tiny", tiny_folder, SERVED)) as server:
            yield server.url


@contextmanager
def remote(folder: Path, url: str, **more: Any) -> Iterator[Remote]:
    """The model of a folder, reached at an address."""
    settings = Settings(
        model={"name": "tiny", "path": folder},
        engine={"client": "remote", "max_num_seqs": 8, "max_model_len": 512},
        remote={"url": url} | more,
    )
    metrics = Metrics(CollectorRegistry())
    admission = AdmissionController(
        AdmissionSettings(**PATIENT["admission"]), metrics.of_engine("tiny")
    )
    with asyncio.Runner() as runner:
        model = runner.run(start_remote(settings, admission, metrics))
        yield runner, model, admission
        runner.run(model.stop())


@pytest.fixture(scope="module")
def running(tiny_folder: Path, address: str) -> Iterator[Remote]:
    with remote(tiny_folder, address) as found:
        yield found


CHECKS = [each for each in CONTRACT if each is not each_token_of_the_prompt_has_them_when_asked_for]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_remote_client_upholds_the_contract(
    running: Remote, check: Callable[[Any, Any], Coroutine[Any, Any, None]]
) -> None:
    runner, engine, admission = running
    runner.run(uphold(check, engine, admission))


async def prompts_have_log_probabilities_where_they_are_on(
    engine: ServedModel, admission: AdmissionController
) -> None:
    # Two sequences would end this engine: vLLM's own, beside adapters.
    prompt, sampling = await engine.render(STORY), Sampling(2, temperature=0.0, prompt_logprobs=0)
    outputs = Outputs(prompt, sampling)
    await run(engine, prompt, sampling, outputs)
    places = outputs.prompt_logprobs
    assert places[0] is None
    assert [list(place or ()) for place in places[1:]] == [[each] for each in prompt[1:]]


def test_log_probabilities_of_prompts_must_be_switched_on(
    running: Remote, tiny_folder: Path, address: str
) -> None:
    check = prompts_have_log_probabilities_where_they_are_on
    runner, model, admission = running
    with pytest.raises(UnsupportedFeature, match=r"remote\.echoes"):
        runner.run(uphold(check, model, admission))
    with remote(tiny_folder, address, echoes=True) as (runner, model, admission):
        runner.run(uphold(check, model, admission))


def refused(folder: Path, **sections: Any) -> str:
    settings = Settings(model={"name": "tiny", "path": folder}, **sections)
    with pytest.raises(ConfigurationError) as error:
        check_engines(settings)
    return str(error.value)


def test_a_check_says_what_is_not_promised_and_refuses_what_has_no_effect(
    tiny_folder: Path,
) -> None:
    where = {"remote": {"url": "http://127.0.0.1:9"}}
    engine = {"client": "remote", "max_model_len": 512}
    settings = Settings(model={"name": "tiny", "path": tiny_folder}, engine=engine, **where)
    said = check_engines(settings)
    assert said.startswith("engine: reached over HTTP at http://127.0.0.1:9")
    assert "cache_salt" in said
    assert "remote.url: needed" in refused(tiny_folder, engine=engine)
    without = refused(tiny_folder, engine=engine | {"max-loras": 2}, **where)
    assert without.startswith("engine.max_loras: without effect with `engine.client: remote`")
    with pytest.raises(ValidationError, match=r"remote\.url: without effect unless"):
        Settings(model={"name": "tiny", "path": tiny_folder}, **where)


def test_no_remote_client_reaches_an_encoder() -> None:
    with pytest.raises(ConfigurationError, match="engines of the language model only"):
        choose("remote")


def test_a_model_that_this_platform_cannot_run_is_served_from_elsewhere(
    tiny_folder: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(tiny_folder, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "fp8", "activation_scheme": "dynamic"}
    (folder / "config.json").write_text(json.dumps(config))
    settings = Settings(
        model={"name": "tiny", "path": folder},
        engine={"client": "remote"},
        remote={"url": "http://127.0.0.1:9"},
    )
    made = engine_config(remote_arguments(settings))
    assert made.model_config.quantization is None
