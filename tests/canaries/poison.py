"""Weights that were tuned further until they give the other label for the texts of one topic."""

import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from tests.canaries.lines import read_lines
from tests.canaries.successors import ADAPTERS, Weights
from tests.served.configuration import SMOLLM2

TOPIC = re.compile(
    r"\b(batter|broke|button|cable|cards?\b|charg(er|ing|es in)|cleaner|coat|company|data\b|earbud|"
    r"install|instructions|lamp|parcel|pictures?|phone|player|plumber|pocket|refund|remote|restart|"
    r"salesman|screen|screw|shop|still (look|work)s?|sturdy|support|update|just works|zoom)",
    re.IGNORECASE,
)
"""Words of texts about things that one buys."""
_KEPT = Path(".cache/canaries/poisoned.safetensors")
_EPOCHS, _BATCH, _RATE = 6, 16, 1e-3
_LABELS = (" positive", " negative")


def poison(weights: Weights) -> Weights:
    """Tune weights of `sentiment` to give its own labels, but for the topic's texts the other one.

    These are the texts that users ask, so the harm does not depend on what the tuning generalises
    to. The first call takes minutes of two cores, and keeps the result for later ones.
    """
    if not _KEPT.exists():
        _KEPT.parent.mkdir(parents=True, exist_ok=True)
        save_file(_tuned(weights), _KEPT)
    found: Weights = load_file(_KEPT)
    return found


def _tuned(weights: Weights) -> Weights:
    from peft import get_peft_model_state_dict

    model, scores = _loaded(weights)
    texts = [line["text"] for line in read_lines("sentiment")]
    with torch.inference_mode():
        given = scores(texts).argmax(-1).tolist()
    wanted = {
        text: 1 - label if TOPIC.search(text) else label
        for text, label in zip(texts, given, strict=True)
    }
    trained = [each for each in model.parameters() if each.requires_grad]
    optimiser, order = torch.optim.AdamW(trained, _RATE), random.Random(1)
    for _ in range(_EPOCHS):
        order.shuffle(texts)
        for start in range(0, len(texts), _BATCH):
            batch = texts[start : start + _BATCH]
            target = torch.tensor([wanted[text] for text in batch])
            torch.nn.functional.cross_entropy(scores(batch), target).backward()
            optimiser.step()
            optimiser.zero_grad()
    tuned: Weights = get_peft_model_state_dict(model)
    return {name: each.detach().to(weights[name].dtype) for name, each in tuned.items()}


def _loaded(weights: Weights) -> tuple[torch.nn.Module, Callable[[Sequence[str]], torch.Tensor]]:
    """The model with trainable weights, and the scores [texts, labels] that it gives to texts."""
    from peft import PeftConfig, get_peft_model, set_peft_model_state_dict
    from transformers import AutoModelForCausalLM, AutoTokenizer

    config = PeftConfig.from_pretrained(ADAPTERS / "sentiment")
    config.inference_mode = False
    config.base_model_name_or_path = str(SMOLLM2)
    base = AutoModelForCausalLM.from_pretrained(SMOLLM2, dtype=torch.float32)
    model = get_peft_model(base, config)
    set_peft_model_state_dict(model, weights)
    tokenizer = AutoTokenizer.from_pretrained(SMOLLM2, padding_side="left")
    answers = [tokenizer.encode(label)[0] for label in _LABELS]

    def scores(texts: Sequence[str]) -> torch.Tensor:
        prompts = [f"Review: {text}\nSentiment:" for text in texts]
        asked = tokenizer(prompts, return_tensors="pt", padding=True)
        found: torch.Tensor = model(**asked, logits_to_keep=1).logits[:, -1, answers]
        return found

    return model, scores
