"""Folders of encoders: the task that they are for, and what is refused by name."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from service.errors import ConfigurationError
from service.models.encoder import EncoderModel, read_encoder

NAMES = {"0": "sports", "1": "politics", "2": "weather"}
MEAN = {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}


def written(
    folder: Path,
    *,
    architecture: str = "BertForSequenceClassification",
    rows: int = 3,
    pooling: dict[str, Any] | None = None,
    **config: Any,
) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"architectures": [architecture]} | config))
    save_file({"classifier.weight": np.zeros((rows, 4), np.float32)}, folder / "model.safetensors")
    if pooling is not None:
        modules = [
            {"type": "sentence_transformers.models.Transformer", "path": ""},
            {"type": "sentence_transformers.models.Pooling", "path": "1_Pooling"},
        ]
        (folder / "modules.json").write_text(json.dumps(modules))
        (folder / "1_Pooling").mkdir()
        (folder / "1_Pooling/config.json").write_text(json.dumps(pooling))
    return folder


def refusal(folder: Path, **facts: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        read_encoder(written(folder, **facts))
    return str(caught.value)


def test_the_head_decides_the_task(tmp_path: Path) -> None:
    labels = ("sports", "politics", "weather")
    assert read_encoder(written(tmp_path / "a", id2label=NAMES)) == EncoderModel("classify", labels)
    several: dict[str, Any] = {"id2label": NAMES, "problem_type": "multi_label_classification"}
    assert read_encoder(written(tmp_path / "b", **several)).multi_label
    one = written(tmp_path / "c", rows=1, id2label={"0": "LABEL_0"})
    assert read_encoder(one) == EncoderModel("score")


@pytest.mark.parametrize("architecture", ["BertModel", "Qwen3ForCausalLM"])
def test_a_model_with_its_pooling_embeds(tmp_path: Path, architecture: str) -> None:
    folder = written(tmp_path / "a", architecture=architecture, pooling=MEAN)
    assert read_encoder(folder) == EncoderModel("embed")


def test_the_configuration_may_state_the_pooling(tmp_path: Path) -> None:
    folder = written(tmp_path / "a", architecture="BertModel")
    assert read_encoder(folder, pooling_stated=True) == EncoderModel("embed")


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        ({}, "id2label: the head's labels are missing"),
        ({"id2label": {"0": "LABEL_0", "1": "LABEL_1"}, "rows": 2}, "names are missing"),
        ({"id2label": {"0": "a", "2": "b"}, "rows": 2}, "must give each of 0..1 a name"),
        ({"id2label": {"0": "a", "1": "a"}, "rows": 2}, "'a' is given twice"),
        ({"id2label": NAMES, "rows": 2}, "id2label has 3 labels, the head in the weights 2"),
        ({"id2label": NAMES, "problem_type": "regression"}, "a regression has one value"),
        ({"architecture": "LlamaForCausalLM"}, "is a language model, which is served under"),
        ({"architecture": "BertModel"}, "no modules.json says how the tokens"),
        ({"architecture": "BertModel", "pooling": {}}, "pools by none"),
        (
            {"architecture": "BertModel", "pooling": {"pooling_mode_max_tokens": True}},
            "pools by pooling_mode_max_tokens",
        ),
        ({"architecture": "BertForTokenClassification"}, "for each token or place"),
        ({"architecture": "BartModel", "is_encoder_decoder": True}, "an encoder-decoder model"),
        ({"architectures": []}, "must name the model's class"),
    ],
)
def test_what_cannot_be_served_is_refused_by_name(
    tmp_path: Path, facts: dict[str, Any], says: str
) -> None:
    assert says in refusal(tmp_path / "a", **facts)


def test_a_models_own_prompts_are_read(tmp_path: Path) -> None:
    folder = written(tmp_path / "a", architecture="BertModel", pooling=MEAN)
    stated = folder / "config_sentence_transformers.json"
    prompts = {"query": "query: ", "document": ""}
    stated.write_text(json.dumps({"prompts": prompts, "default_prompt_name": None}))
    assert read_encoder(folder).prompts == prompts
    stated.write_text(json.dumps({"prompts": ["query: "]}))
    with pytest.raises(ConfigurationError, match="prompts: must be texts by name"):
        read_encoder(folder)


def test_a_broken_configuration_is_refused_by_name(tmp_path: Path) -> None:
    folder = written(tmp_path / "a", id2label=NAMES)
    for text in ("{", "[]"):
        (folder / "config.json").write_text(text)
        with pytest.raises(ConfigurationError, match=r"config\.json: "):
            read_encoder(folder)
