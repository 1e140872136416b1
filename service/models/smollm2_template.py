"""Chat template with which SmolLM2-135M-Instruct is asked to call tools.

The model's own template shows no tools. transformers and vLLM take this one for a conversation with
tools, and the model's own for any other, because of its name and folder in the model's.
"""

from pathlib import Path

TOOL_USE = r"""
{{- '<|im_start|>system\n' -}}
{%- if messages[0].role == 'system' -%}{{- messages[0].content + '\n\n' -}}{%- endif -%}
{{- 'You can call these functions:\n' -}}
{%- for tool in tools -%}{{- tool.function | tojson + '\n' -}}{%- endfor -%}
{{- 'To call one, write <tool_call>\n{"name": ..., "arguments": ...}\n</tool_call>' -}}
{{- '<|im_end|>\n' -}}
{%- for message in (messages[1:] if messages[0].role == 'system' else messages) -%}
  {%- if message.role == 'tool' -%}
    {{- '<|im_start|>user\n<tool_response>\n' + message.content + '\n</tool_response>' -}}
  {%- else -%}
    {{- '<|im_start|>' + message.role + '\n' + (message.content or '') -}}
    {%- for call in message.tool_calls or [] -%}
      {{- '<tool_call>\n{"name": ' + call.function.name | tojson + ', "arguments": ' -}}
      {{- call.function.arguments | tojson + '}\n</tool_call>' -}}
    {%- endfor -%}
  {%- endif -%}
  {{- '<|im_end|>\n' -}}
{%- endfor -%}
{{- '<|im_start|>assistant\n' if add_generation_prompt -}}
"""


def write_tool_template(folder: Path) -> None:
    """Put the template into the model's folder, where there is none yet."""
    file = folder / "additional_chat_templates" / "tool_use.jinja"
    if not file.is_file():
        file.parent.mkdir(exist_ok=True)
        file.write_text(TOOL_USE.strip(), encoding="utf-8")
