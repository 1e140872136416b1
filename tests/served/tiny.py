"""A one-layer random model: the real engine with hardly any arithmetic, for protocol tests."""

import shutil
from pathlib import Path

_TEMPLATE = "chat_template.jinja"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", _TEMPLATE)
_VARIABLES = (
    "{% if enable_thinking is false %}{{ '<think></think>' }}{% endif %}"
    "{% for document in documents or [] %}{{ document['text'] }}{% endfor %}"
)
"""Addition to the template: what requests may set of models that think or read documents."""


def build_tiny_model(
    source: Path, target: Path, *, dtype: str = "float32", tied: bool = True
) -> None:
    """Save a Llama of one layer and hidden size 64 with random weights and `source`'s tokenizer.

    Its output layer is its embedding if `tied`. Its chat template reads
    `enable_thinking` and `documents`.
    """
    import torch
    from transformers import AutoConfig, LlamaForCausalLM

    config = AutoConfig.from_pretrained(source)
    config.num_hidden_layers = 1
    config.hidden_size = 64
    config.intermediate_size = 128
    config.num_attention_heads = 2
    config.num_key_value_heads = 2
    config.head_dim = 32
    config.tie_word_embeddings = tied
    torch.manual_seed(0)
    LlamaForCausalLM(config).to(getattr(torch, dtype)).save_pretrained(target)
    for name in TOKENIZER_FILES:
        shutil.copy(source / name, target / name)
    with (target / _TEMPLATE).open("a", encoding="utf-8") as template:
        template.write(_VARIABLES)
