"""Random LoRA adapters of the one-layer model, and their expected answers.

The truth comes from transformers and peft, not from the engine under test.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from service.adapters.verify import VerifiedAdapter
from service.models.base_model import ServedBase, read_base_model
from training.packing import pack

RANK = 8
_MARGIN = 0.001
MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""Every linear layer of a Llama, and of the models that are built like one."""


class LoraMaker:
    """Makes adapters of one base; `seed` decides their weights, large enough to change answers."""

    def __init__(self, base_folder: Path, name: str, modules: Sequence[str] = MODULES) -> None:
        import torch
        from peft import LoraConfig, get_peft_model
        from transformers import AutoModelForCausalLM, AutoTokenizer

        # Matrices this small gain nothing from a second thread and lose much to a busy machine.
        torch.set_num_threads(1)
        self._torch = torch
        self.base: ServedBase = read_base_model(base_folder, name=name, max_rank=RANK)
        self._tokenizer = AutoTokenizer.from_pretrained(base_folder)
        model = AutoModelForCausalLM.from_pretrained(base_folder, dtype=torch.float32)
        config = LoraConfig(
            r=RANK, lora_alpha=2 * RANK, target_modules=list(modules), task_type="CAUSAL_LM"
        )
        self._model = get_peft_model(model, config).eval()

    def write(
        self,
        folder: Path,
        *,
        name: str,
        version: str,
        seed: int,
        prompts: Sequence[str],
        tokens: int,
    ) -> list[str]:
        """Write a packed generation adapter; its golden answers, which are returned, are peft's."""
        answers = self._decided(seed, prompts, tokens)
        folder.mkdir(parents=True, exist_ok=True)
        self._model.save_pretrained(folder)
        (folder / "README.md").unlink(missing_ok=True)
        golden = [{"prompt": p, "expect": a} for p, a in zip(prompts, answers, strict=True)]
        (folder / "golden.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in golden))
        draft = {
            "name": name,
            "version": version,
            "task": "generation",
            "golden": {"file": "golden.jsonl", "match": "exact", "max_tokens": tokens},
        }
        packed: VerifiedAdapter = pack(folder, self.base, draft, overwrite=True)
        assert packed.manifest.version == version
        return answers

    def write_classifier(self, folder: Path, weights: Path, draft: Mapping[str, Any]) -> str:
        """Write a packed classifier with the weights of another adapter's folder; its digest.

        `draft` has its name, version, prompt and labels.
        """
        folder.mkdir()
        for file in ("adapter_config.json", "adapter_model.safetensors"):
            shutil.copy(weights / file, folder / file)
        packed: VerifiedAdapter = pack(folder, self.base, {"task": "classification", **draft})
        return packed.digest

    def base_answer(self, prompt: str, tokens: int) -> str:
        """The greedy answer of the base without an adapter."""
        with self._model.disable_adapter():
            return self._answer(prompt, tokens)[0]

    def base_choice(self, prompt: str, labels: Sequence[str]) -> list[float]:
        """Probabilities of labels, of one token each, as the next one after the prompt."""
        ids: Any = self._tokenizer(prompt, return_tensors="pt")
        tokens = [self._tokenizer.encode(f" {label}") for label in labels]
        assert all(len(token) == 1 for token in tokens)
        with self._model.disable_adapter(), self._torch.inference_mode():
            logits = self._model(**ids).logits[0, -1, [token[0] for token in tokens]]
        probabilities: list[float] = logits.softmax(0).tolist()
        return probabilities

    def _decided(self, seed: int, prompts: Sequence[str], tokens: int) -> list[str]:
        """Draw weights with clear answers, because two engines round differently."""
        for attempt in range(100):
            self._draw(seed + 100_000 * attempt)
            answers = [self._answer(prompt, tokens) for prompt in prompts]
            # An answer that ends within a character: the engine waits for the rest of it.
            whole = all("\N{REPLACEMENT CHARACTER}" not in text for text, _ in answers)
            if whole and min(margin for _, margin in answers) > _MARGIN:
                return [text for text, _ in answers]
        raise AssertionError("no weights decide clearly")

    def _answer(self, prompt: str, tokens: int) -> tuple[str, float]:
        """The greedy answer and the least lead, in nats, of a chosen token over the next one."""
        ids: Any = self._tokenizer(prompt, return_tensors="pt")
        with self._torch.inference_mode():
            out = self._model.generate(
                **ids,
                max_new_tokens=tokens,
                do_sample=False,
                output_logits=True,
                return_dict_in_generate=True,
            )
        best = self._torch.stack(out.logits).squeeze(1).topk(2).values
        answer = out.sequences[0, ids["input_ids"].shape[1] :]
        text: str = self._tokenizer.decode(answer, skip_special_tokens=True)
        return text, float((best[:, 0] - best[:, 1]).min())

    def _draw(self, seed: int) -> None:
        generator = self._torch.Generator().manual_seed(seed)
        with self._torch.no_grad():
            for name, parameter in self._model.named_parameters():
                if "lora_" in name:
                    parameter.normal_(0, 0.2, generator=generator)
