"""A model's folder whose tokenizer and chat template know thoughts, and Qwen's format of calls."""

import json
import shutil
from pathlib import Path

THINK, THOUGHT, CALL, CALLED = "<think>", "</think>", "<tool_call>", "</tool_call>"
_RENAMED = {
    "<filename>": THINK,
    "<gh_stars>": THOUGHT,
    "<issue_start>": CALL,
    "<issue_comment>": CALLED,
}
"""Tokens of SmolLM2's tokenizer that no test needs, and what they are called instead."""

_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n"
    "{% if enable_thinking is defined and not enable_thinking %}\n</think>\n\n{% endif %}"
    "{% endif %}"
)
"""Thoughts are begun for the model, and ended at once where thinking is switched off."""


def thinking_model(model: Path, folder: Path) -> dict[str, int]:
    """Copy a model into a folder, as one that thinks; returns its tokens of thoughts and calls."""
    shutil.copytree(model, folder)
    file = folder / "tokenizer.json"
    tokenizer = json.loads(file.read_text(encoding="utf-8"))
    ids = {}
    for token in tokenizer["added_tokens"]:
        if (name := _RENAMED.get(token["content"])) is not None:
            tokenizer["model"]["vocab"][name] = tokenizer["model"]["vocab"].pop(token["content"])
            token |= {"content": name, "special": False}
            ids[name] = token["id"]
    file.write_text(json.dumps(tokenizer), encoding="utf-8")
    (folder / "chat_template.jinja").write_text(_TEMPLATE, encoding="utf-8")
    return ids
