"""A random Qwen3 of one layer, a family whose decisions vLLM serves; no part of the image."""

import shutil
from pathlib import Path

_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


def write(tokenizer: Path, folder: Path) -> None:
    """Write the model into a folder, with the tokenizer and the chat template of another."""
    import torch
    from transformers import AutoConfig, Qwen3Config, Qwen3ForCausalLM

    of_tokenizer = AutoConfig.from_pretrained(tokenizer)
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=of_tokenizer.vocab_size,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=32,
        bos_token_id=of_tokenizer.bos_token_id,
        eos_token_id=of_tokenizer.eos_token_id,
        dtype="bfloat16",
    )
    Qwen3ForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    for name in _FILES:
        shutil.copy(tokenizer / name, folder / name)
