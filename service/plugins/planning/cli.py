"""`llm-service init`: write a commented configuration for a model on this machine."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from service.adapters.fetch import adapter_cache
from service.adapters.verify import VerifiedAdapter, verify
from service.common.command_line import one_message, quiet_engine
from service.common.files import write_atomically
from service.errors import ConfigurationError
from service.models.base_model import read_base_model
from service.models.digest import base_model_digest
from service.models.file_list import read_file_list
from service.plugins.planning.configuration_text import configuration_text
from service.plugins.planning.table import table
from service.settings.adapters import AdapterSettings
from service.settings.load import load_settings
from service.settings.tree import ModelSettings, Settings

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
        rank = max((each.weights.rank for each in verified), default=None)
        quiet_engine("ERROR")
        from service.plugins.planning.proposal import propose

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
