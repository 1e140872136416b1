"""The adapters of deploy/local: plain PEFT and plain vLLM load them unchanged and agree.

"Plain vLLM" is vLLM's own server and its own adapter operators: none of this service runs in it.
"""

import json
import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from loadtests.processes import free_port, running, served, wait_until
from service.adapters.manifest import ClassificationManifest, GenerationManifest, Manifest
from service.adapters.manifest_yaml import load_manifest
from service.adapters.verify import verify
from service.model.base_model import read_base_model

ROOT = Path("deploy/local/adapters")
FOLDERS = sorted(file.parent for file in ROOT.glob("*/adapter.yaml"))
NAMES = [folder.name for folder in FOLDERS]
MAX_BYTES = 5_000_000
_TOP = 20
_EXAMPLES = 2


def golden(folder: Path, manifest: Manifest) -> list[dict[str, Any]]:
    assert manifest.golden is not None
    lines = (folder / manifest.golden.file).read_text().splitlines()
    return [json.loads(line) for line in lines[:_EXAMPLES]]


def test_the_embedded_default_serves_every_one() -> None:
    config = yaml.safe_load(Path("deploy/local/config.yaml").read_text())
    assert sorted(Path(each["source"]).name for each in config["adapters"]) == NAMES
    assert len(NAMES) >= 2


@pytest.mark.parametrize("folder", FOLDERS, ids=NAMES)
def test_each_is_whole_small_and_for_the_default_base(folder: Path, smollm2_folder: Path) -> None:
    base = read_base_model(smollm2_folder, name="smollm2-135m-instruct", max_rank=8)
    verified = verify(folder, base)
    assert verified.weights.rank <= 8
    assert (folder / "adapter_model.safetensors").stat().st_size < MAX_BYTES
    assert verified.manifest.golden is not None
    assert "test" in verified.manifest.evaluation


class Plain:
    """One adapter in transformers and PEFT: its next tokens, and their probabilities."""

    def __init__(self, base: Path, folder: Path) -> None:
        import torch
        from peft import PeftModel
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self._torch = torch
        self.tokenizer: Any = AutoTokenizer.from_pretrained(base)
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        self._model = PeftModel.from_pretrained(model, folder).eval()

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
def vllm_url(smollm2_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """vLLM's own server with the folders as they lie in the repository."""
    port = free_port()
    command = [
        sys.executable, "-m", "vllm.entrypoints.openai.api_server",
        "--model", str(smollm2_folder), "--served-model-name", "base", "--port", str(port),
        "--dtype", "float32", "--max-model-len", "512", "--max-num-seqs", "4", "--enforce-eager",
        "--gpu-memory-utilization", "0.2", "--enable-lora", "--max-loras", "1",
        "--max-lora-rank", "8", "--max-logprobs", str(_TOP),
        "--lora-modules", *[f"{each.name}={each.resolve()}" for each in FOLDERS],
    ]  # fmt: skip
    environment = os.environ | {
        "VLLM_PLUGINS": "", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1", "TORCHDYNAMO_DISABLE": "1",
    }  # fmt: skip
    log = tmp_path_factory.mktemp("vllm") / "log"
    url = f"http://127.0.0.1:{port}"
    with running(command, log, env=environment) as process:
        wait_until(lambda: served(f"{url}/health", process, log), 300, "vLLM")
        yield url


@pytest.mark.parametrize("folder", FOLDERS, ids=NAMES)
def test_plain_peft_and_plain_vllm_agree(folder: Path, smollm2_folder: Path, vllm_url: str) -> None:
    manifest = load_manifest(folder)
    plain = Plain(smollm2_folder, folder)
    for example in golden(folder, manifest):
        match manifest:
            case ClassificationManifest():
                _compare_labels(plain, manifest, example, vllm_url)
            case GenerationManifest():
                _compare_answers(plain, manifest, example, vllm_url)


def _compare_labels(
    plain: Plain, manifest: ClassificationManifest, example: dict[str, Any], url: str
) -> None:
    prompt = manifest.prompt.render(example["input"])
    body = {
        "model": manifest.name, "prompt": prompt, "max_tokens": 1, "temperature": 0,
        "logprobs": _TOP, "return_tokens_as_token_ids": True,
    }  # fmt: skip
    answer = httpx.post(f"{url}/v1/completions", json=body, timeout=600).raise_for_status().json()
    top: dict[str, float] = answer["choices"][0]["logprobs"]["top_logprobs"][0]
    expected = plain.next_log_probs(prompt)
    for token, logprob in list(top.items())[:3]:
        found = expected[int(token.removeprefix("token_id:"))].item()
        assert math.isclose(logprob, found, abs_tol=0.02), (token, logprob, found)
    words = {
        name: plain.tokenizer.encode(text, add_special_tokens=False)
        for name, text in manifest.classification.labels.items()
    }
    best = max(words, key=lambda name: expected[words[name][0]].item())
    assert best == example["label"]


def _compare_answers(
    plain: Plain, manifest: GenerationManifest, example: dict[str, Any], url: str
) -> None:
    assert manifest.golden is not None
    tokens = manifest.golden.max_tokens
    body = {
        "model": manifest.name, "messages": example["messages"], "max_tokens": tokens,
        "temperature": 0, "return_token_ids": True,
    }  # fmt: skip
    answer = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=600)
    (choice,) = answer.raise_for_status().json()["choices"]
    said = choice["token_ids"]
    assert said == plain.likeliest(example["messages"], said)
    assert (said[-1] == plain.tokenizer.eos_token_id) == (choice["finish_reason"] == "stop")
