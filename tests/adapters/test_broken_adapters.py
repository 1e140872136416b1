"""Every way we know to break an adapter, each refused with its own message."""

import itertools
import json
import os
import pickle
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from service.adapters import formats as pattern
from service.adapters.formats import AdapterRefused
from service.adapters.verify import verify
from service.models.base_model import ServedBase
from tests.adapters.samples import HIDDEN, KV, AdapterFolder, Q, V, raw_safetensors

WEIGHTS, CONFIG, MANIFEST = "adapter_model.safetensors", "adapter_config.json", "adapter.yaml"
Break = Callable[[AdapterFolder], object]


@dataclass(frozen=True)
class Case:
    """Ways to break a good adapter, and the file and words that each refusal must name."""

    name: str
    file: str
    says: tuple[str, ...]
    breaks: Break


def _bytes(change: Callable[[bytes], bytes], file: str = WEIGHTS, *, seal: bool = False) -> Break:
    def breaks(adapter: AdapterFolder) -> None:
        path = adapter.save().path / file
        path.write_bytes(change(path.read_bytes()))
        if seal:
            adapter.seal()

    return breaks


def _sealed(content: bytes) -> Break:
    return _bytes(lambda _: content, seal=True)


def _config(**keys: object) -> Break:
    def breaks(adapter: AdapterFolder) -> None:
        adapter.config |= keys
        adapter.save()

    return breaks


def _manifest(**keys: object) -> Break:
    def breaks(adapter: AdapterFolder) -> None:
        adapter.save().manifest |= keys
        adapter.write_manifest()

    return breaks


def _tensor(name: str, value: "np.ndarray[tuple[int, ...], np.dtype[np.float32]] | None") -> Break:
    def breaks(adapter: AdapterFolder) -> None:
        del adapter.tensors[name]
        if value is not None:
            adapter.tensors[name] = value
        adapter.save()

    return breaks


def _extra_tensor(name: str, *shape: int) -> Break:
    def breaks(adapter: AdapterFolder) -> None:
        adapter.tensors[name] = np.ones(shape, np.float32)
        adapter.save()

    return breaks


def _value(value: float, dtype: type[np.floating]) -> Break:
    def breaks(adapter: AdapterFolder) -> None:
        weights = {name: tensor.astype(dtype) for name, tensor in adapter.tensors.items()}
        weights[f"{V}.lora_B.weight"][3, 1] = value
        adapter.tensors = weights
        adapter.save()

    return breaks


def _zero_b(adapter: AdapterFolder) -> None:
    for name, tensor in adapter.tensors.items():
        if "lora_B" in name:
            adapter.tensors[name] = tensor * np.float32(-0.0)
    adapter.save()


def _file(name: str, content: bytes, *, seal: bool = False) -> Break:
    def breaks(adapter: AdapterFolder) -> None:
        (adapter.save().path / name).write_bytes(content)
        if seal:
            adapter.seal()

    return breaks


def _symlink(adapter: AdapterFolder) -> None:
    path = adapter.save().path / WEIGHTS
    path.rename(adapter.path.parent / "elsewhere")
    path.symlink_to(adapter.path.parent / "elsewhere")


def _fifo(adapter: AdapterFolder) -> None:
    os.mkfifo(adapter.save().path / "pipe")


def _manifest_pipe(adapter: AdapterFolder) -> None:
    path = adapter.save().path / MANIFEST
    path.unlink()
    os.mkfifo(path)


def _manifest_symlink(adapter: AdapterFolder) -> None:
    path = adapter.save().path / MANIFEST
    path.rename(adapter.path.parent / "elsewhere")
    path.symlink_to(adapter.path.parent / "elsewhere")


def _escape(adapter: AdapterFolder) -> None:
    (adapter.save().path.parent / "secret").write_text("s")
    adapter.manifest["files"]["../secret"] = adapter.manifest["files"][CONFIG]
    adapter.write_manifest()


def _prompt(template: str) -> Break:
    return _manifest(prompt={"template": template})


def _golden(*lines: object) -> Break:
    def breaks(adapter: AdapterFolder) -> None:
        adapter.save()
        text = "".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines)
        (adapter.path / "golden.jsonl").write_text(text)
        adapter.seal()

    return breaks


def _header(**entries: object) -> Break:
    return _sealed(raw_safetensors(entries, bytes(8)))


def _f32(begin: int, end: int, *shape: int, dtype: str = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


DIGEST = "sha256:" + "0" * 64
TWICE = b"{%s, %s}" % (2 * (b'"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}',))
LABELS = {"positive": " positive", "negative": " negative"}
CASES = [
    # Bytes that differ from the manifest's digests.
    Case("flipped byte", WEIGHTS, ("digest differs", "sha256:"),
         _bytes(lambda raw: raw[:-1] + bytes([raw[-1] ^ 1]))),
    Case("flipped byte in the config", CONFIG, ("digest differs",),
         _bytes(lambda raw: raw.replace(b"8", b"9"), CONFIG)),
    Case("zero bytes", WEIGHTS, ("is empty", "0 bytes"), _bytes(lambda _: b"")),
    Case("missing weights", WEIGHTS, ("is missing",),
         lambda a: (a.save().path / WEIGHTS).unlink()),
    Case("wrong digest of the base", MANIFEST, ("base_model.digest", DIGEST),
         _manifest(base_model={"name": "tiny", "digest": DIGEST})),
    Case("wrong name of the base", MANIFEST, ("base_model.name", "expected tiny", "found huge"),
         _manifest(base_model={"name": "huge", "digest": DIGEST})),
    # Content of the folder.
    Case("unlisted file", "notes.txt", ("is not listed",), _file("notes.txt", b"x")),
    Case("pickle beside the weights", "adapter_model.bin", ("may hold a pickle", ".bin"),
         _file("adapter_model.bin", pickle.dumps({}))),
    Case("listed pickle", "training_args.pt", ("may hold a pickle", ".pt"),
         _file("training_args.pt", pickle.dumps({}), seal=True)),
    Case("symlink", WEIGHTS, ("is a symlink", "elsewhere"), _symlink),
    Case("named pipe", "pipe", ("is not a file", "a special file"), _fifo),
    Case("folder inside", "checkpoint-1", ("is not a file", "a folder"),
         lambda a: (a.save().path / "checkpoint-1").mkdir()),
    Case("path escape", MANIFEST, ("files.../secret", "pattern"), _escape),
    # The safetensors file, its digest right.
    Case("truncated", WEIGHTS, ("not fully covered",), _bytes(lambda raw: raw[:-4], seal=True)),
    Case("truncated in its header", WEIGHTS, ("invalid header length",),
         _bytes(lambda raw: raw[:40], seal=True)),
    Case("too short", WEIGHTS, ("header too small",), _sealed(bytes(3))),
    Case("pickle under its name", WEIGHTS, ("a pickle, not safetensors",),
         _sealed(pickle.dumps([1, 2, 3]))),
    Case("zip under its name", WEIGHTS, ("a pickle, not safetensors", "504b0304"),
         _sealed(b"PK\x03\x04" + bytes(30))),
    Case("oversized header", WEIGHTS, ("header is too large", "4194304 bytes"),
         _sealed((1 << 40).to_bytes(8, "little") + b"{}")),
    Case("header is not JSON", WEIGHTS, ("invalid JSON in header",),
         _sealed(raw_safetensors(b"{x"))),
    Case("header nested without end", WEIGHTS, ("invalid JSON in header", "sequence"),
         _sealed(raw_safetensors(b"[" * 200_000))),
    Case("tensor twice", WEIGHTS, ("is given twice", "found a"),
         _sealed(raw_safetensors(TWICE, bytes(4)))),
    Case("metadata of numbers", WEIGHTS, ("expected a string",),
         _sealed(raw_safetensors({"__metadata__": {"a": 1}}))),
    Case("entry without a shape", WEIGHTS, ("missing field `shape`",),
         _header(a={"dtype": "F32"})),
    Case("dtype of integers", WEIGHTS, ("dtype of a", "BF16, F16, F32", "found I8"),
         _header(a=_f32(0, 8, 8, dtype="I8"))),
    Case("negative size", WEIGHTS, ("invalid value: integer `-1`",), _header(a=_f32(0, 8, -1))),
    Case("size beyond every file", WEIGHTS, ("overflow",),
         _header(a=_f32(0, 8, *[2**62] * 400))),
    Case("number of 5,000 digits", WEIGHTS, ("invalid JSON in header", "number"),
         _sealed(raw_safetensors(b'{"a": ' + b"1" * 5000 + b"}"))),
    Case("offsets backwards", WEIGHTS, ("invalid offset for tensor `a`",),
         _header(a=_f32(8, 0, 2))),
    Case("offsets of another size", WEIGHTS, ("invalid shape, data type, or offset",),
         _header(a=_f32(0, 4, 2))),
    Case("offsets overlap", WEIGHTS, ("invalid offset for tensor `b`",),
         _header(a=_f32(0, 8, 2), b=_f32(4, 8, 1))),
    Case("no tensors", WEIGHTS, ("disagrees with target_modules", "found none"),
         _sealed(raw_safetensors({}))),
    # Tensors against the base and the configuration.
    Case("wrong shape of A", WEIGHTS, ("q_proj lora_A", "[4, 64]", "[4, 32]"),
         _tensor(f"{Q}.lora_A.weight", np.ones((4, KV), np.float32))),
    Case("wrong shape of B", WEIGHTS, ("v_proj lora_B", "[32, 4]", "[64, 4]"),
         _tensor(f"{V}.lora_B.weight", np.ones((HIDDEN, 4), np.float32))),
    Case("rank of a tensor is not the config's", WEIGHTS, ("lora_A", "rank 2", "[4, 64]"),
         _config(r=2)),
    Case("three-dimensional", WEIGHTS, ("q_proj lora_A", "[1, 4, 64]"),
         _tensor(f"{Q}.lora_A.weight", np.ones((1, 4, HIDDEN), np.float32))),
    Case("B missing", WEIGHTS, ("v_proj is incomplete", "found A"),
         _tensor(f"{V}.lora_B.weight", None)),
    Case("module of another base", WEIGHTS, ("a module of the base", "layers.7"),
         _extra_tensor("base_model.model.model.layers.7.self_attn.q_proj.lora_A.weight", 4, 64)),
    Case("module without tensors", WEIGHTS, ("k_proj disagrees", "expected A and B, found none"),
         _config(target_modules=["q_proj", "k_proj", "v_proj"])),
    Case("module nobody targeted", WEIGHTS, ("v_proj disagrees", "expected none, found A and B"),
         _config(target_modules=["q_proj"])),
    Case("target not in the base", WEIGHTS, ("target_modules", "found c_attn"),
         _config(target_modules=["q_proj", "v_proj", "c_attn"])),
    Case("linear LoRA on the embedding", WEIGHTS, ("lora_embedding_A", "found lora_A.weight"),
         _extra_tensor("base_model.model.model.embed_tokens.lora_A.weight", 4, 96)),
    Case("copy of the base's embedding", WEIGHTS, ("vLLM skips silently",),
         _extra_tensor("base_model.model.model.embed_tokens.base_layer.weight", 96, 64)),
    Case("DoRA magnitude", WEIGHTS, ("a DoRA magnitude",),
         _extra_tensor(f"{Q}.lora_magnitude_vector.weight", 64)),
    Case("bias tensor", WEIGHTS, ("is not served", "found a bias"),
         _extra_tensor(f"{Q}.lora_B.bias", 64)),
    Case("NaN", WEIGHTS, ("v_proj.lora_B.weight (F32)", "inf or NaN at element 13"),
         _value(float("nan"), np.float32)),
    Case("infinity in half precision", WEIGHTS,
         ("v_proj.lora_B.weight (F16)", "inf or NaN at element 13"),
         _value(float("-inf"), np.float16)),
    Case("never trained", WEIGHTS, ("changes nothing", "only zeros in every B"), _zero_b),
    # PEFT's features.
    Case("rank over the engine's", CONFIG, ("r:", "max_lora_rank 8", "found 16"), _config(r=16)),
    Case("rank of zero", CONFIG, ("r:", "from 1", "found 0"), _config(r=0)),
    Case("rank pattern over the engine's", CONFIG, ("rank_pattern q_proj", "found 64"),
         _config(rank_pattern={"q_proj": 64})),
    Case("rank pattern is no pattern", CONFIG, ("a pattern cannot be used",),
         _config(rank_pattern={"(": 4})),
    Case("too many rank patterns", CONFIG, ("rank_pattern", "at most 64 items", "65 keys"),
         _config(rank_pattern={f"q{n}": 4 for n in range(65)})),
    Case("too many alpha patterns", CONFIG, ("alpha_pattern", "at most 64 items", "65 keys"),
         _config(alpha_pattern={f"q{n}": 4 for n in range(65)})),
    Case("too many layer patterns", CONFIG, ("layers_pattern", "at most 64 items", "a list of 65"),
         _config(layers_to_transform=[0], layers_pattern=["layers"] * 65)),
    Case("alpha pattern is no pattern", CONFIG, ("alpha_pattern (", "a regular expression"),
         _config(alpha_pattern={"(": 4})),
    Case("layers pattern without a number", CONFIG, ("layers_pattern", "no layer's number"),
         _config(layers_to_transform=[0], layers_pattern=["model|x"])),
    Case("layers pattern with a number of its own", CONFIG, ("(?P<index>", "no layer's number"),
         _config(layers_to_transform=[0], layers_pattern=["(?P<index>layers)|x"])),
    Case("alpha of zero", CONFIG, ("lora_alpha", "greater than 0, found 0"), _config(lora_alpha=0)),
    Case("alpha too large", CONFIG, ("lora_alpha", "equal to 16384, found 1e+30"),
         _config(lora_alpha=1e30)),
    Case("DoRA", CONFIG, ("use_dora", "DoRA are not served"), _config(use_dora=True)),
    Case("modules_to_save", CONFIG, ("modules_to_save", "['lm_head']"),
         _config(modules_to_save=["lm_head"])),
    Case("bias", CONFIG, ("bias", "expected 'none', found 'all'"), _config(bias="all")),
    Case("lora_bias", CONFIG, ("lora_bias",), _config(lora_bias=True)),
    Case("PiSSA", CONFIG, ("init_lora_weights", "'pissa'"), _config(init_lora_weights="pissa")),
    Case("LoRA-GA", CONFIG, ("init_lora_weights", "'lora_ga'"),
         _config(init_lora_weights="lora_ga")),
    Case("fan_in_fan_out", CONFIG, ("fan_in_fan_out",), _config(fan_in_fan_out=True)),
    Case("trained tokens", CONFIG, ("trainable_token_indices", "[5]"),
         _config(trainable_token_indices=[5])),
    Case("layer replication", CONFIG, ("layer_replication",), _config(layer_replication=[[0, 1]])),
    Case("a feature of a later PEFT", CONFIG, ("use_quantum: unknown PEFT feature",),
         _config(use_quantum=True)),
    Case("not a LoRA", CONFIG, ("peft_type", "expected 'LORA', found 'IA3'"),
         _config(peft_type="IA3")),
    Case("no target modules", CONFIG, ("target_modules", "found nothing"),
         _config(target_modules=None)),
    Case("config is not JSON", CONFIG, ("is not JSON",),
         _bytes(lambda _: b"{", CONFIG, seal=True)),
    # The manifest.
    Case("no manifest", MANIFEST, ("cannot be read",),
         lambda a: (a.save().path / MANIFEST).unlink()),
    Case("manifest is a pipe", MANIFEST, ("is not a file", "a link or pipe"), _manifest_pipe),
    Case("manifest is a symlink", MANIFEST, ("is not a file", "found a link"), _manifest_symlink),
    Case("typo", MANIFEST, ("field clasification", "did you mean 'classification'?"),
         _manifest(clasification={"labels": LABELS})),
    Case("typo in the depth", MANIFEST, ("classification.multilabel", "mean 'multi_label'?"),
         _manifest(classification={"labels": LABELS, "multilabel": True})),
    Case("version is a number", MANIFEST, ("field version", "a valid string", "found 1.2"),
         _manifest(version=1.2)),
    Case("version is not semantic", MANIFEST, ("field version", "'1.2'"),
         _manifest(version="1.2")),
    Case("unknown task", MANIFEST, ("field task", "'classification', 'generation'", "'sorting'"),
         _manifest(task="sorting")),
    Case("schema of the future", MANIFEST, ("field schema", "expected 1, found 2"),
         _manifest(schema=2)),
    Case("template without input", MANIFEST, ("prompt.template", "exactly once", "0 times"),
         _prompt("Review:")),
    Case("template with two inputs", MANIFEST, ("prompt.template", "2 times"),
         _prompt("{input} {input}")),
    Case("template with the instruction last", MANIFEST, ("at most 256 characters after", "400"),
         _prompt("{input}" + "x" * 400)),
    Case("one label", MANIFEST, ("labels: must be at least 2", "found 1"),
         _manifest(classification={"labels": {"a": " a"}})),
    Case("labels of the same words", MANIFEST, ("labels: must", "found the same words twice"),
         _manifest(classification={"labels": {"a": " a", "b": " a"}})),
    Case("prior of another length", MANIFEST, ("calibration.prior", "2 values", "found 1 values"),
         _manifest(classification={"labels": LABELS, "calibration": {"prior": [1.0]}})),
    Case("prior that sums to 1.2", MANIFEST, ("calibration.prior", "a sum of 1.2"),
         _manifest(classification={"labels": LABELS, "calibration": {"prior": [0.6, 0.6]}})),
    Case("temperature of zero", MANIFEST, ("calibration.temperature", "greater than 0"),
         _manifest(classification={"labels": LABELS, "calibration": {"temperature": 0}})),
    Case("golden file not listed", MANIFEST, ("golden.file", "found other.jsonl"),
         _manifest(golden={"file": "other.jsonl", "min_accuracy": 0.9})),
    Case("repeated key", MANIFEST, ("'name' is given twice",),
         _bytes(lambda raw: raw + b"name: other\n", MANIFEST)),
    Case("alias", MANIFEST, ("an alias is not allowed",),
         _bytes(lambda raw: b"a: &a [1]\nb: *a\n" + raw, MANIFEST)),
    Case("tag", MANIFEST, ("a tag is not allowed",),
         _bytes(lambda raw: b"a: !!python/name:os.system\n" + raw, MANIFEST)),
    Case("manifest without end", MANIFEST, ("is too large", "65536 bytes"),
         _bytes(lambda raw: raw + b"#" * 70_000, MANIFEST)),
    Case("manifest nested without end", MANIFEST, ("nest",),
         _bytes(lambda raw: b"[" * 10_000, MANIFEST)),
    # The golden file.
    Case("golden of an unknown label", "golden.jsonl", ("line 2", "positive, negative", "so-so"),
         _golden({"input": "a", "label": "positive"}, {"input": "b", "label": "so-so"})),
    Case("golden line is not JSON", "golden.jsonl", ("line 1",), _golden("{")),
    Case("golden without an answer", "golden.jsonl", ("line 1", "label"), _golden({"input": "a"})),
    Case("golden of another task", "golden.jsonl", ("line 1", "input"),
         _golden({"prompt": "a", "expect": "b"})),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_broken_adapter_is_refused_by_name(
    case: Case, adapter: AdapterFolder, base: ServedBase
) -> None:
    case.breaks(adapter)

    with pytest.raises(AdapterRefused) as refused:
        verify(adapter.path, base)

    error, message = refused.value, str(refused.value)
    assert error.owner in ("sentiment", adapter.path.name)
    assert error.file == case.file
    assert message.startswith(f"adapter {error.owner}: {case.file}: ")
    for fragment in case.says:
        assert fragment in message
    assert str(adapter.path) not in message
    assert "\n" not in message


def test_all_patterns_share_one_time(
    adapter: AdapterFolder, base: ServedBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each reading of the clock is 1 s after the last, so a match takes a second of the 5 allowed.
    monkeypatch.setattr(pattern, "time", SimpleNamespace(monotonic=itertools.count().__next__))
    _config(rank_pattern={f"layer{n}": 4 for n in range(6)})(adapter)
    with pytest.raises(AdapterRefused, match=r"over 5 s, all matches together"):
        verify(adapter.path, base)


def test_each_case_has_its_own_name_and_words() -> None:
    assert len({case.name for case in CASES}) == len(CASES)
    assert len({(case.file, case.says) for case in CASES}) == len(CASES)


def test_the_unbroken_adapter_is_accepted(adapter: AdapterFolder, base: ServedBase) -> None:
    verified = verify(adapter.save().path, base)

    assert verified.folder == adapter.path
    assert verified.manifest.name == "sentiment"
    assert verified.rank == 4


def test_the_limits_are_the_engines_not_the_adapters(
    adapter: AdapterFolder, base: ServedBase
) -> None:
    adapter.save()

    verify(adapter.path, replace(base, max_rank=4))
    with pytest.raises(AdapterRefused, match="max_lora_rank 3, found 4"):
        verify(adapter.path, replace(base, max_rank=3))


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path, base: ServedBase) -> None:
    with pytest.raises(AdapterRefused, match=r"adapter gone: adapter\.yaml: cannot be read"):
        verify(tmp_path / "gone", base)
