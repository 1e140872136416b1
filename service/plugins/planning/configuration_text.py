"""The text of a proposed configuration, with its reasons as comments."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from service.adapters.verify import VerifiedAdapter
from service.common.plain_yaml import PlainDumper
from service.models.file_list import read_file_list
from service.plugins.planning.table import table
from service.settings.tree import Settings

if TYPE_CHECKING:
    from service.plugins.planning.proposal import Proposal


def configuration_text(
    proposal: "Proposal", verified: Sequence[VerifiedAdapter], folder: Path
) -> str:
    """YAML for a file in `folder`, with the estimate, the assumptions and a reason for each key."""
    lines = [
        "# Written by `llm-service init`; every key is explained in docs/settings.md.",
        "#",
        *(f"# {line}".rstrip() for line in table(proposal.estimate).splitlines()),
        "#",
        "# Assumed:",
        *(f"# - {assumption}" for assumption in proposal.assumptions),
        "",
        *_model_lines(proposal, folder),
        "",
        "engine: # vLLM's own argument names",
    ]
    for key, value in proposal.settings.engine.items():
        lines.append(f"  {key}: {_value(value)} # {proposal.reasons[key]}")
    if proposal.estimate.machine.on_cpu:
        cpu = proposal.settings.cpu
        reason = proposal.reasons["kv_cache_gib"]
        lines += ["", "cpu:", f"  cores: {_value(cpu.cores)}"]
        lines += [f"  kv_cache_gib: {cpu.kv_cache_gib} # {reason}"]
    lines += ["", *_adapter_lines(proposal.settings, verified, folder), *_CLOSING]
    return "\n".join(lines) + "\n"


def _model_lines(proposal: "Proposal", folder: Path) -> Iterator[str]:
    model = proposal.settings.base
    listed = read_file_list(model.path)
    pinned = "its configuration, tokenizer and a part of each tensor"
    if listed is not None:
        pinned = "every file; a start that finds another is refused and names it"
    yield "model:"
    yield f"  name: {_value(model.name)} # requests say this in `model`"
    yield f"  path: {_value(_relative(str(model.path), folder))}"
    yield f"  digest: {model.digest} # {pinned}"
    if _thinks(model.path):
        yield "  # The template can think; classification needs it off:"
        yield "  # chat_template_kwargs: {enable_thinking: false}"


def _adapter_lines(
    settings: Settings, verified: Sequence[VerifiedAdapter], folder: Path
) -> Iterator[str]:
    if not verified:
        return
    yield "adapters: # verified; proven on the engine before the service is ready"
    for wanted, each in zip(settings.adapters, verified, strict=True):
        facts = f"{each.manifest.name}, rank {each.weights.rank}, {each.weights.modules} modules"
        yield f"  - source: {_value(_relative(wanted.source, folder))} # {facts}"
        yield f"    digest: {each.digest}"
    yield ""


_CLOSING = (
    "# http: {host: 0.0.0.0} # then set tenants.keys too: `llm-service keys --help`",
    "# gate: {max_wait_ms: 1500} # refuse at once a request that would wait longer",
)


def _relative(place: str, folder: Path) -> str:
    """A path from the file's folder where it is below; addresses and other paths as they are."""
    if "://" not in place and Path(place).is_relative_to(folder):
        return os.path.relpath(place, folder)
    return place


def _thinks(folder: Path) -> bool:
    names = ("chat_template.jinja", "tokenizer_config.json")
    return any(
        "enable_thinking" in (folder / name).read_text(encoding="utf-8", errors="replace")
        for name in names
        if (folder / name).is_file()
    )


def _value(value: Any) -> str:
    """A scalar as YAML that reads back as the same."""
    written: str = yaml.dump(value, Dumper=PlainDumper, width=10_000)
    return written.removesuffix("...\n").strip()
