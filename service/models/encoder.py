"""Reads facts from an encoder's folder, and refuses folders that cannot be served as one."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from service.common.error_messages import quote
from service.engine.pooling import EncoderTask
from service.errors import ConfigurationError
from service.models.tensors import read_tensors

Kind = TypeVar("Kind", dict[str, Any], list[Any])

_HEADS = ("classifier.weight", "score.weight", "classifier.out_proj.weight")
"""Weights of the last layer of a head, whose rows are the labels."""
_OTHER_TASKS = ("ForTokenClassification", "ForQuestionAnswering", "ForMultipleChoice")
_LANGUAGE_MODELS = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
_MODES = ("pooling_mode_cls_token", "pooling_mode_mean_tokens", "pooling_mode_lasttoken")
_STATE_IT = (
    "set `engine.pooler_config` to what the model was trained with, such as {pooling_type: MEAN}"
)
_MOST_LABELS = 1024
_LABEL_CHARS = 256


@dataclass(frozen=True, slots=True)
class EncoderModel:
    """An encoder's task, the labels of its head, and, if it embeds, its prompts."""

    task: EncoderTask
    labels: tuple[str, ...] = ()
    multi_label: bool = False
    prompts: Mapping[str, str] = field(default_factory=dict)


def read_encoder(folder: Path, *, pooling_stated: bool = False) -> EncoderModel:
    """The task of the encoder in `folder`, from its config.json and the headers of its weights.

    `pooling_stated` says whether the service's configuration defines the pooling of tokens. Raises
    ConfigurationError for a language model, another task, labels that are missing, are placeholders
    or do not match the size of the head, and an embedding model whose pooling is defined nowhere.
    """
    config = _read(folder, "config.json", dict)
    architecture = _architecture(config)
    if architecture.endswith(_OTHER_TASKS):
        raise ConfigurationError(
            f"{architecture} answers for each token or place of a text, which is not served"
        )
    if architecture.endswith("ForSequenceClassification"):
        return _head(folder, config)
    if not pooling_stated:
        _check_pooling(folder, architecture)
    return EncoderModel("embed", prompts=_prompts(folder))


def check_base_of_head(folder: Path) -> None:
    """Raise ConfigurationError if the folder's model is not an encoder: it cannot get a head."""
    architecture = _architecture(_read(folder, "config.json", dict))
    if architecture.endswith(_LANGUAGE_MODELS):
        raise ConfigurationError(
            f"base.path: {architecture} is a language model, which gets a LoRA; leave out `head`"
        )


def _check_pooling(folder: Path, architecture: str) -> None:
    """Refuse a model that does not say how its tokens are pooled: a guess gives other vectors."""
    if not (folder / "modules.json").is_file():
        if architecture.endswith(_LANGUAGE_MODELS):
            raise ConfigurationError(
                f"{architecture} is a language model, which is served under `model`; as an encoder "
                "only with the modules.json of sentence-transformers"
            )
        raise ConfigurationError(
            "no modules.json says how the tokens of a text are pooled; fetch the whole folder, or "
            f"{_STATE_IT}"
        )
    modules = _read(folder, "modules.json", list)
    known = [each for each in modules if isinstance(each, dict)]
    places = [each.get("path") for each in known if str(each.get("type")).endswith(".Pooling")]
    if len(places) != 1:
        raise ConfigurationError(
            f"modules.json: must name one Pooling module, names {len(places)}; {_STATE_IT}"
        )
    pooling = _read(folder, f"{places[0]}/config.json", dict)
    on = [name for name, value in pooling.items() if value is True]
    modes = [name for name in on if name.startswith("pooling_mode_")]
    if "pooling_mode" in pooling:
        modes.append(str(pooling["pooling_mode"]))
    if len(modes) != 1 or modes[0] not in {*_MODES, "cls", "mean", "lasttoken"}:
        raise ConfigurationError(
            f"{places[0]}/config.json: must pool by one of {', '.join(_MODES)}, pools by "
            f"{', '.join(modes) or 'none'}"
        )


def _prompts(folder: Path) -> dict[str, str]:
    """The prompts that the model was trained with, by kind of input; empty ones are none."""
    name = "config_sentence_transformers.json"
    stated = _read(folder, name, dict).get("prompts") if (folder / name).is_file() else None
    if stated is None:
        return {}
    if not isinstance(stated, dict) or not all(isinstance(each, str) for each in stated.values()):
        raise ConfigurationError(f"{name}: prompts: must be texts by name, are {quote(stated)}")
    return stated


def _read(folder: Path, name: str, kind: type[Kind]) -> Kind:
    try:
        found = json.loads((folder / name).read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"{name}: cannot be read: {error}") from error
    if not isinstance(found, kind):
        raise ConfigurationError(f"{name}: must hold {kind.__name__}, holds {quote(found)}")
    return found


def _architecture(config: Mapping[str, Any]) -> str:
    match config.get("architectures"):
        case [str(name), *_] if not config.get("is_encoder_decoder"):
            return name
        case [str(name), *_]:
            raise ConfigurationError(
                f"{name} is an encoder-decoder model, which is not served; served are encoders "
                "such as BertModel, and language models under `model`"
            )
    raise ConfigurationError("config.json: architectures: must name the model's class")


def _head(folder: Path, config: Mapping[str, Any]) -> EncoderModel:
    labels = _labels(config.get("id2label"))
    tensors = read_tensors(folder)
    found = [tensors[name].shape[0] for name in _HEADS if name in tensors]
    if found and found[0] != len(labels):
        raise ConfigurationError(
            f"config.json: id2label has {len(labels)} labels, the head in the weights {found[0]}"
        )
    problem = config.get("problem_type")
    if len(labels) == 1:
        return EncoderModel("score")
    if problem == "regression":
        raise ConfigurationError("config.json: problem_type: a regression has one value, no labels")
    placeholders = [f"LABEL_{index}" for index in range(len(labels))]
    if list(labels) == placeholders:
        raise ConfigurationError(
            f"config.json: id2label: the labels' names are missing, these are {placeholders[0]}, "
            f"{placeholders[1]}, ..."
        )
    return EncoderModel("classify", labels, problem == "multi_label_classification")


def _labels(stated: object) -> tuple[str, ...]:
    if not isinstance(stated, dict) or not stated:
        raise ConfigurationError("config.json: id2label: the head's labels are missing")
    if len(stated) > _MOST_LABELS:
        raise ConfigurationError(
            f"config.json: id2label: at most {_MOST_LABELS} labels, got {len(stated)}"
        )
    labels = tuple(stated.get(str(index)) for index in range(len(stated)))
    names = [name for name in labels if isinstance(name, str) and name.strip()]
    if len(names) != len(labels) or max(map(len, names)) > _LABEL_CHARS:
        raise ConfigurationError(
            f"config.json: id2label: must give each of 0..{len(labels) - 1} a name of at most "
            f"{_LABEL_CHARS} characters"
        )
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ConfigurationError(f"config.json: id2label: {quote(twice)} is given twice")
    return tuple(names)
