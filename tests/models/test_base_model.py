import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from service.common.files import file_digest
from service.errors import ConfigurationError
from service.models.base_model import base_model_digest, read_base_model
from service.models.tensors import INDEX_FILE, SINGLE_FILE
from tests.adapters.samples import MODULES, describe, write_base


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_base(tmp_path / "tiny")


def shard(folder: Path) -> None:
    """Spread the single file over two, as save_pretrained does with large models."""
    tensors = load_file(folder / SINGLE_FILE)
    names = sorted(tensors)
    files = {
        "model-00001-of-00002.safetensors": names[:3],
        "model-00002-of-00002.safetensors": names[3:],
    }
    for file, held in files.items():
        save_file({name: tensors[name] for name in held}, folder / file)
    weight_map = {name: file for file, held in files.items() for name in held}
    (folder / INDEX_FILE).write_text(json.dumps({"weight_map": weight_map}))
    (folder / SINGLE_FILE).unlink()


def test_file_digest_is_sha256(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")

    # FIPS 180-2, appendix B.1.
    assert file_digest(tmp_path / "a") == (
        "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )


def test_modules_are_the_two_dimensional_weights(folder: Path) -> None:
    base = describe(folder)

    assert base.modules == MODULES
    assert base.name == "tiny"
    assert base.max_rank == 8
    assert base.digest == base_model_digest(folder)


@pytest.mark.parametrize(
    ("method", "bits", "packed"),
    [
        ("gptq", {"bits": 4}, lambda out, into: (into // 8, out)),
        ("gptq", {"bits": 8}, lambda out, into: (into // 4, out)),
        ("awq", {"bits": 4}, lambda out, into: (into, out // 8)),
        ("awq", {"w_bit": 4}, lambda out, into: (into, out // 8)),
    ],
)
def test_layers_that_awq_and_gptq_pack_have_the_shapes_of_their_weights(
    folder: Path,
    method: str,
    bits: dict[str, int],
    packed: Callable[[int, int], tuple[int, int]],
) -> None:
    tensors = load_file(folder / SINGLE_FILE)
    layers = [name for name in MODULES if "layers" in name]
    for layer in layers:
        shape = packed(*tensors.pop(f"{layer}.weight").shape)
        tensors[f"{layer}.qweight"] = np.zeros(shape, np.int32)
        tensors[f"{layer}.qzeros"] = np.zeros((1, 4), np.int32)
    save_file(tensors, folder / SINGLE_FILE)
    quantised = {"quantization_config": {"quant_method": method, **bits}}
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"} | quantised))
    assert describe(folder).modules == MODULES


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.Q4_1.gguf", "consolidated.00.pth"])
def test_another_format_is_named_with_what_to_do(folder: Path, name: str) -> None:
    (folder / SINGLE_FILE).rename(folder / name)
    with pytest.raises(ConfigurationError, match=rf"found {name}, a format .*save_pretrained"):
        describe(folder)


def test_sharding_changes_nothing(folder: Path) -> None:
    whole = describe(folder)
    shard(folder)

    assert describe(folder) == whole


def test_bookkeeping_changes_nothing(folder: Path) -> None:
    before = base_model_digest(folder)
    config = json.loads((folder / "config.json").read_text())
    config = {"_name_or_path": "/home/me/model"} | config | {"transformers_version": "99"}
    (folder / "config.json").write_text(json.dumps(config, indent=4))
    (folder / "generation_config.json").write_text("{}")
    (folder / "README.md").write_text("hello")

    assert base_model_digest(folder) == before


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config.json", '{"model_type": "llama", "hidden_size": 64, "rope_theta": 5}'),
        ("tokenizer.json", '{"model": {"vocab": {"a": 1}}}'),
        ("chat_template.jinja", "{{ messages }}"),
        ("tokenizer_config.json", '{"chat_template": "x"}'),
    ],
)
def test_config_and_tokenizer_are_bound(folder: Path, file: str, content: str) -> None:
    before = base_model_digest(folder)
    (folder / file).write_text(content)

    assert base_model_digest(folder) != before


def test_retrained_weights_are_told_apart_although_every_header_is_equal(tmp_path: Path) -> None:
    first = write_base(tmp_path / "a", seed=1)
    second = write_base(tmp_path / "b", seed=2)

    assert base_model_digest(first) != base_model_digest(second)


def test_another_precision_is_told_apart(folder: Path) -> None:
    before = base_model_digest(folder)
    tensors = {k: v.astype(np.float32) for k, v in load_file(folder / SINGLE_FILE).items()}
    save_file(tensors, folder / SINGLE_FILE)

    assert base_model_digest(folder) != before


def test_weights_are_not_read_whole(tmp_path: Path) -> None:
    """Bytes past a tensor's first 4096 are not bound, as the docstring says."""
    folder = write_base(tmp_path / "tiny")
    before = base_model_digest(folder)
    tensors = load_file(folder / SINGLE_FILE)
    tensors["model.layers.0.mlp.up_proj.weight"][-1, -1] += 1
    save_file(tensors, folder / SINGLE_FILE)

    assert base_model_digest(folder) == before


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("config.json", "expected config.json, found none"),
        ("tokenizer.json", "expected one of tokenizer.json"),
        (SINGLE_FILE, f"expected {SINGLE_FILE} or {INDEX_FILE}, found neither"),
    ],
)
def test_an_incomplete_base_is_named(folder: Path, missing: str, message: str) -> None:
    (folder / missing).unlink()

    with pytest.raises(ConfigurationError, match=f"base model tiny: {message}"):
        read_base_model(folder, name="tiny", max_rank=8)


def test_a_truncated_shard_is_named(folder: Path) -> None:
    shard(folder)
    path = folder / "model-00002-of-00002.safetensors"
    path.write_bytes(path.read_bytes()[:-2])

    with pytest.raises(
        ConfigurationError, match=r"model-00002-of-00002\.safetensors: .*not fully covered"
    ):
        describe(folder)


@pytest.mark.parametrize(
    ("weight_map", "message"),
    [
        ({"model.norm.weight": "../x.safetensors"}, "must map tensors to files beside it"),
        ([], "must map tensors"),
        ({"model.norm.weight": "gone.safetensors"}, "gone.safetensors: .*No such file"),
    ],
)
def test_a_broken_index_is_named(folder: Path, weight_map: object, message: str) -> None:
    shard(folder)
    (folder / INDEX_FILE).write_text(json.dumps({"weight_map": weight_map}))

    with pytest.raises(ConfigurationError, match=message):
        describe(folder)


def test_an_index_that_disagrees_with_its_shards_is_named(folder: Path) -> None:
    shard(folder)
    index = json.loads((folder / INDEX_FILE).read_text())
    index["weight_map"]["model.extra.weight"] = "model-00001-of-00002.safetensors"
    (folder / INDEX_FILE).write_text(json.dumps(index))
    with pytest.raises(ConfigurationError, match=r"names model\.extra\.weight, no shard holds it"):
        describe(folder)

    del index["weight_map"]["model.extra.weight"], index["weight_map"]["model.norm.weight"]
    (folder / INDEX_FILE).write_text(json.dumps(index))
    with pytest.raises(ConfigurationError, match=r"places model\.norm\.weight in None"):
        describe(folder)
