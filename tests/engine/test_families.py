"""Families of architectures on the real engine: answers, labels and adapters as transformers'."""

import os
from pathlib import Path
from typing import Any

import pytest

from service.errors import ConfigurationError
from service.settings.adapters import AdapterSettings
from service.settings.tree import ModelSettings, Settings
from service.vllm.arguments import engine_config, parse_engine_arguments
from tests.served.configuration import ENGINE
from tests.served.families import FAMILIES, build_family
from tests.served.lora import RANK, LoraMaker
from tests.served.server import PATIENT, Server, running_server

PROMPT = "The weather in Oslo"
LABELS = ["rain", "sun", "snow"]
TEMPLATE = "{input} will be:"
TOKENS = 8


@pytest.mark.families
@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_answers_classifies_and_takes_an_adapter(
    name: str, smollm2_folder: Path, tmp_path: Path
) -> None:
    family = FAMILIES[name]
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    build_family(family, smollm2_folder, base)
    truth = LoraMaker(base, name, family.modules or ("q_proj",))
    config: dict[str, Any] = PATIENT | {
        "model": {"name": name, "path": str(base)},
        "engine": ENGINE | {"dtype": "float32", "max_num_seqs": 4},
    }
    if family.modules:
        (tuned,) = truth.write(
            adapter, name="tuned", version="1.0.0", seed=0, prompts=[PROMPT], tokens=TOKENS
        )
        config["adapters"] = [{"source": str(adapter)}]
        config["engine"]["max_lora_rank"] = RANK
    with running_server(tmp_path, config) as server:
        plain = generated(server, name)
        assert plain == truth.base_answer(PROMPT, TOKENS)
        expected = truth.base_choice(TEMPLATE.format(input=PROMPT), LABELS)
        assert chosen(server, name) == pytest.approx(expected, abs=1e-4)
        if family.modules:
            assert generated(server, "tuned") == tuned
            assert tuned != plain


def test_adapters_on_a_model_with_experts_are_refused_before_the_start(
    smollm2_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # vLLM takes its settings from the environment, which the arguments set.
    monkeypatch.setattr(os, "environ", os.environ.copy())
    build_family(FAMILIES["qwen3-moe"], smollm2_folder, tmp_path)
    settings = Settings(
        model=ModelSettings(name="experts", path=tmp_path),
        engine=ENGINE,
        adapters=(AdapterSettings(source="/adapters/tuned"),),
    )
    with pytest.raises(ConfigurationError, match="takes none on a model with experts"):
        engine_config(parse_engine_arguments(settings))


def generated(server: Server, model: str) -> str:
    body = {"model": model, "prompt": PROMPT, "max_tokens": TOKENS, "temperature": 0}
    answer = server.post("/v1/generate", body)
    assert answer.status_code == 200, answer.text
    text: str = answer.json()["outputs"][0]["text"]
    return text


def chosen(server: Server, model: str) -> list[float]:
    """Probabilities of the labels as the prompt's next token."""
    body = {
        "model": model,
        "input": PROMPT,
        "candidate_labels": LABELS,
        "template": TEMPLATE,
        "calibrate": False,
    }
    answer = server.post("/v1/classify", body)
    assert answer.status_code == 200, answer.text
    probs: list[float] = answer.json()["data"][0]["probs"]
    return probs
