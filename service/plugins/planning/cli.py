"""The command `init`, and the text of the configuration that it writes, with its reasons."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml

from service.adapters.fetch import adapter_cache
from service.adapters.verify import VerifiedAdapter, verify
from service.common.command_line import one_message, quiet_engine
from service.common.files import write_atomically
from service.common.plain_yaml import PlainDumper
from service.errors import ConfigurationError
from service.models.base_model import base_model_digest, read_base_model
from service.models.file_list import read_file_list
from service.plugins.planning.estimate import table
from service.settings import section as platform
from service.settings.adapters import AdapterSettings
from service.settings.load import load_settings
from service.settings.tree import ModelSettings, Settings

if TYPE_CHECKING:
    from service.plugins.planning.proposal import Proposal


def configuration_text(
    proposal: "Proposal", verified: Sequence[VerifiedAdapter], folder: Path
) -> str:
    """A configuration as YAML for a file in `folder`, with estimate, assumptions, reasons."""
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
        facts = f"{each.manifest.name}, rank {each.rank}"
        yield f"  - source: {_value(_relative(wanted.source, folder))} # {facts}"
        yield f"    digest: {each.digest}"
    yield ""


_CLOSING = (
    "# http: {host: 0.0.0.0} # then set tenants.keys too: `llm-service keys --help`",
    "# admission: {max_wait_ms: 1000} # refuse at once a request that would wait longer",
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


_HIGHEST_RANK = 512


def init(
    model: Annotated[Path, typer.Argument(help="Folder of the base model.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.")] = Path(
        "config.yaml"
    ),
    name: Annotated[
        str | None,
        typer.Option(help="Name that requests use in `model`; default the folder's name."),
    ] = None,
    adapter: Annotated[
        list[str] | None,
        typer.Option(help="Folder or address of an adapter to serve; may be given several times."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file.")] = False,
) -> None:
    """Write a configuration for a model and the hardware of this machine, with comments.

    It chooses the number of GPUs, the type, the context's length, the sequences at once, the KV
    cache and, for the adapters, the rank. It prints what it assumed, writes this into the file too,
    and checks the result as `serve --check` does. An existing file is kept unless --force is given.

    Examples:

      llm-service init models/mine

      llm-service init models/mine --adapter adapters/tone --output /etc/llm-service/config.yaml
    """
    with one_message():
        if output.exists() and not force:
            raise ConfigurationError(f"{output}: exists already; --force replaces it")
        settings = Settings(
            model=_model(model, name),
            adapters=tuple(AdapterSettings(source=_place(each)) for each in adapter or ()),
        )
        verified = _verified(settings)
        rank = max((each.rank for each in verified), default=None)
        quiet_engine()
        from service.plugins.planning.proposal import propose

        _warn_of_unused_cards()
        proposal = propose(settings, rank)
        text = configuration_text(proposal, verified, output.resolve().parent)
        _check(text, output)
        write_atomically(output, text.encode())
        typer.echo(f"wrote {output}\n\n{table(proposal.estimate)}\n\nassumed:")
        for assumption in proposal.assumptions:
            typer.echo(f"- {assumption}")
        for warning in proposal.estimate.warnings():
            typer.echo(f"warning: {warning}")
        typer.echo(f"\nthen: llm-service serve --config {output}")


def _warn_of_unused_cards() -> None:
    for card in unused_cards():
        typer.echo(
            f"warning: this machine has {card}, and the installed vLLM is the CPU build: this "
            "configuration is for the CPU. For the GPU, run init where vLLM's CUDA build is "
            "installed (`make gpu`, or the image of --target cuda).",
            err=True,
        )


def unused_cards(devices: Path = Path("/dev")) -> list[str]:
    """One of NVIDIA's devices here, where the installed build of vLLM would not use it."""
    if platform.installed() is not platform.CPU:
        return []
    return sorted(map(str, devices.glob("nvidia[0-9]*")))[:1]


def _model(folder: Path, name: str | None) -> ModelSettings:
    """The model under its name, pinned by its list of files, else by its own digest."""
    listed = read_file_list(folder)
    digest = base_model_digest(folder) if listed is None else listed.digest
    return ModelSettings(name=name or folder.resolve().name, path=folder.resolve(), digest=digest)


def _place(source: str) -> str:
    return source if "://" in source else str(Path(source).resolve())


def _verified(settings: Settings) -> list[VerifiedAdapter]:
    """The adapters, fetched and verified against the base."""
    if not settings.adapters:
        return []
    base = read_base_model(settings.base.path, name=settings.base.name, max_rank=_HIGHEST_RANK)
    cache = adapter_cache(settings.adapter_cache.path)
    folders = [
        cache.resolve(each.source).folder if "://" in each.source else Path(each.source)
        for each in settings.adapters
    ]
    return [verify(folder, base) for folder in folders]


def _check(text: str, output: Path) -> None:
    """Raise ConfigurationError unless the service would read the text as it is meant."""
    with TemporaryDirectory(dir=output.resolve().parent, prefix=".init-") as folder:
        file = Path(folder) / output.name
        file.write_text(text, encoding="utf-8")
        load_settings(file)
