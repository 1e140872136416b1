import json
from pathlib import Path

import pytest

from service.vllm.tool_parsers import tool_template

NAMED = [{"name": "default", "template": "d"}, {"name": "tool_use", "template": "t"}]


@pytest.mark.parametrize(
    ("files", "template"),
    [
        ({}, ""),
        ({"chat_template.jinja": "a"}, "a"),
        ({"chat_template.jinja": "a", "additional_chat_templates/tool_use.jinja": "t"}, "t"),
        ({"chat_template.jinja": "a", "tokenizer_config.json": '{"chat_template": "b"}'}, "a"),
        ({"tokenizer_config.json": '{"chat_template": "b"}'}, "b"),
        ({"tokenizer_config.json": json.dumps({"chat_template": NAMED})}, "t"),
        ({"tokenizer_config.json": json.dumps({"chat_template": NAMED[:1]})}, "d"),
        ({"chat_template.json": '{"chat_template": "c"}', "tokenizer_config.json": "{}"}, "c"),
        ({"tokenizer_config.json": '{"chat_template": {"a": 1}}'}, ""),
        ({"tokenizer_config.json": "[1]"}, ""),
        ({"tokenizer_config.json": "not JSON"}, ""),
    ],
)
def test_the_template_of_a_chat_with_tools(
    tmp_path: Path, files: dict[str, str], template: str
) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    assert tool_template(tmp_path) == template
