"""A random base model of one layer, and runs that train on it in seconds."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from tokenizers import Tokenizer, decoders

from tests.classification.bpe import tokenizer
from training.config import FinetuneSettings, load_finetune_settings

_CHAT = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{{ '<|im_start|>assistant\n' }}"
)

Run = Callable[..., Path]


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of one layer and hidden size 16 with a small byte-level tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("base") / "tiny"
    words = Tokenizer.from_str(tokenizer("gpt2").to_str())
    words.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=words, eos_token="<|im_end|>", chat_template=_CHAT
    )
    config = LlamaConfig(
        vocab_size=len(fast),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=256,
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


def films(count: int = 60) -> list[dict[str, Any]]:
    """Lines of two labels that differ by a word."""
    words = {"positive": "good", "negative": "bad"}
    return [
        {"text": f"the film {number} was {words[label]}", "label": label}
        for number in range(count // 2)
        for label in words
    ]


def films_run(base: Path) -> dict[str, Any]:
    """The configuration of a run on lines.jsonl, without its training section."""
    return {
        "name": "films",
        "version": "1.0.0",
        "summary": "Films.",
        "task": "classification",
        "base": {"name": "tiny", "path": str(base)},
        "data": {"files": ["lines.jsonl"], "name": "films", "licence": "CC0-1.0"},
        "prompt": {"template": "Review: {input}\nSentiment:"},
        "split": {"validation": 0.1, "calibration": 0.2, "test": 0.2},
        "evaluation": {"golden": 4},
        "work": "work",
        "output": "adapters/films",
    }


@pytest.fixture
def run(base_folder: Path, tmp_path: Path) -> Run:
    """Writes a run's lines and its configuration, and returns the file of the latter."""

    def write(lines: Sequence[object] | str | None = None, **changes: Any) -> Path:
        text = (
            lines
            if isinstance(lines, str)
            else "".join(f"{json.dumps(line)}\n" for line in (films() if lines is None else lines))
        )
        (tmp_path / "lines.jsonl").write_text(text, encoding="utf-8")
        tree = films_run(base_folder) | {
            "training": {
                "epochs": 2, "batch_tokens": 128, "dtype": "float32", "device": "cpu",
                "threads": 1, "learning_rate": 0.01,
            },
        }  # fmt: skip
        for key, value in changes.items():
            if isinstance(value, dict) and isinstance(tree.get(key), dict):
                tree[key] = tree[key] | value
            elif value is None:
                del tree[key]
            else:
                tree[key] = value
        file = tmp_path / "run.yaml"
        file.write_text(yaml.safe_dump(tree))
        return file

    return write


@pytest.fixture
def settings(run: Run) -> Callable[..., FinetuneSettings]:
    """The settings that are read from a `run`."""
    return lambda *lines, **changes: load_finetune_settings(run(*lines, **changes))
