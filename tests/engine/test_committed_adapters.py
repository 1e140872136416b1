"""The adapters of deploy/local: plain PEFT and plain vLLM load them unchanged and agree.

"Plain vLLM" is its own class `LLM` and its own adapter operators: none of this service runs in it.
"""

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.adapters.manifest import ClassificationManifest, GenerationManifest, Manifest
from service.adapters.manifest_yaml import load_manifest
from service.adapters.verify import verify
from service.models.base_model import ServedBase, read_base_model

ROOT = Path("deploy/local/adapters")
FOLDERS = sorted(file.parent for file in ROOT.glob("*/adapter.yaml"))
NAMES = [folder.name for folder in FOLDERS]
MAX_BYTES = 5_000_000
_EXAMPLES = 2
_TOP = 20


def golden(folder: Path, manifest: Manifest) -> list[dict[str, Any]]:
    assert manifest.golden is not None
    lines = (folder / manifest.golden.file).read_text().splitlines()
    return [json.loads(line) for line in lines[:_EXAMPLES]]


def test_the_embedded_default_serves_every_one() -> None:
    config = yaml.safe_load(Path("deploy/local/config.yaml").read_text())
    assert sorted(Path(each["source"]).name for each in config["adapters"]) == NAMES
    assert len(NAMES) >= 2


@pytest.fixture(scope="module")
def default(smollm2_folder: Path) -> ServedBase:
    """The default model, whose digest is of all its weights."""
    return read_base_model(smollm2_folder, name="smollm2-135m-instruct", max_rank=8)


@pytest.mark.parametrize("folder", FOLDERS, ids=NAMES)
def test_each_is_whole_small_and_for_the_default_base(folder: Path, default: ServedBase) -> None:
    verified = verify(folder, default)
    assert verified.rank <= 8
    assert (folder / "adapter_model.safetensors").stat().st_size < MAX_BYTES
    assert verified.manifest.golden is not None
    assert "test" in verified.manifest.evaluation


class Plain:
    """The adapters in transformers and PEFT: next tokens of one, and their probabilities."""

    def __init__(self, base: Path) -> None:
        import torch
        from peft import PeftModel
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self._torch = torch
        self.tokenizer: Any = AutoTokenizer.from_pretrained(base)
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        first, *others = FOLDERS
        self._model = PeftModel.from_pretrained(model, first, adapter_name=first.name)
        for folder in others:
            self._model.load_adapter(folder, folder.name)
        self._model.eval()

    def use(self, name: str) -> None:
        """Let one adapter, and no other, count."""
        self._model.set_adapter(name)

    def next_log_probs(self, prompt: str) -> Any:
        ids = self.tokenizer(prompt, return_tensors="pt")
        with self._torch.inference_mode():
            return self._model(**ids).logits[0, -1].float().log_softmax(dim=0)

    def likeliest(self, messages: list[dict[str, str]], said: list[int]) -> list[int]:
        """The likeliest token at each place of an answer, after those before it."""
        asked = self.tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )["input_ids"]
        ids = self._torch.cat([asked, self._torch.tensor([said])], dim=1)
        with self._torch.inference_mode():
            logits = self._model(ids).logits[0, asked.shape[1] - 1 : -1]
        tokens: list[int] = logits.argmax(dim=-1).tolist()
        return tokens


@pytest.fixture(scope="module")
def plain(smollm2_folder: Path) -> Plain:
    return Plain(smollm2_folder)


@pytest.fixture(scope="module")
def answers(
    smollm2_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, list[dict[str, Any]]]:
    """Plain vLLM's answers to the golden examples of each folder, as it lies in the repository."""
    asked = [
        question(load_manifest(folder), example)
        for folder in FOLDERS
        for example in golden(folder, load_manifest(folder))
    ]
    folder = tmp_path_factory.mktemp("vllm")
    (folder / "questions").write_text(json.dumps(asked))
    command = [
        sys.executable, "-m", "tests.engine.plain_vllm",
        *map(str, (smollm2_folder, folder / "questions", folder / "answers")),
        *(str(each.resolve()) for each in FOLDERS),
    ]  # fmt: skip
    # Without processes of its own vLLM is imported once.
    environment = os.environ | {
        "VLLM_PLUGINS": "", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1", "TORCHDYNAMO_DISABLE": "1", "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    }  # fmt: skip
    run = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert run.returncode == 0, run.stderr[-4000:]
    given: dict[str, list[dict[str, Any]]] = {name: [] for name in NAMES}
    for each, answer in zip(asked, json.loads((folder / "answers").read_text()), strict=True):
        given[each["adapter"]].append(answer)
    return given


def question(manifest: Manifest, example: dict[str, Any]) -> dict[str, Any]:
    """The question that `plain_vllm` is asked for an example."""
    if isinstance(manifest, ClassificationManifest):
        prompt = manifest.prompt.render(example["input"])
        return {"adapter": manifest.name, "prompt": prompt, "max_tokens": 1, "logprobs": _TOP}
    assert manifest.golden is not None
    tokens = manifest.golden.max_tokens
    return {"adapter": manifest.name, "messages": example["messages"], "max_tokens": tokens}


@pytest.mark.slow
@pytest.mark.parametrize("folder", FOLDERS, ids=NAMES)
def test_plain_peft_and_plain_vllm_agree(
    folder: Path, plain: Plain, answers: dict[str, list[dict[str, Any]]]
) -> None:
    manifest = load_manifest(folder)
    plain.use(folder.name)
    for example, answer in zip(golden(folder, manifest), answers[folder.name], strict=True):
        match manifest:
            case ClassificationManifest():
                _compare_labels(plain, manifest, example, answer)
            case GenerationManifest():
                _compare_answers(plain, example, answer)


def _compare_labels(
    plain: Plain, manifest: ClassificationManifest, example: dict[str, Any], answer: dict[str, Any]
) -> None:
    expected = plain.next_log_probs(manifest.prompt.render(example["input"]))
    for token, logprob in answer["top"][:3]:
        found = expected[token].item()
        assert math.isclose(logprob, found, abs_tol=0.02), (token, logprob, found)
    words = {
        name: plain.tokenizer.encode(text, add_special_tokens=False)
        for name, text in manifest.classification.labels.items()
    }
    best = max(words, key=lambda name: expected[words[name][0]].item())
    assert best == example["label"]


def _compare_answers(plain: Plain, example: dict[str, Any], answer: dict[str, Any]) -> None:
    said = answer["tokens"]
    assert said == plain.likeliest(example["messages"], said)
    ended = said[-1] == plain.tokenizer.eos_token_id
    assert ended == (answer["finish_reason"] == "stop")
