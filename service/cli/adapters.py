"""Verify, list, prove and watch adapters; with `training` also pack, sign, push and try them.

Exit codes: 0 success, 1 an adapter is refused or not proven, 2 the command or its configuration
cannot be used.
"""

import asyncio
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from service.adapters.folder import check_signature, trusted_keys
from service.adapters.formats import AdapterRefused
from service.adapters.manifest import SIGNATURE_FILE, Manifest
from service.adapters.manifest_yaml import list_adapters
from service.adapters.verify import VerifiedAdapter
from service.adapters.verify import verify as verify_folder
from service.cli.adapters_status import status
from service.common.command_line import one_message, print_table, quiet_engine
from service.errors import ConfigurationError
from service.models.base_model import ServedBase, read_base_model
from service.settings.load import load_settings
from service.settings.tree import Settings

app = typer.Typer(no_args_is_help=True, help=__doc__)
"""`training` adds the commands that write packages: pack, sign and push."""
app.command()(status)

Folder = Annotated[Path, typer.Argument(help="Folder of the adapter.")]
Folders = Annotated[list[Path], typer.Argument(metavar="FOLDER...", help="Folders of adapters.")]
Base = Annotated[Path, typer.Option("--base", help="Folder of the base model.")]
BaseName = Annotated[
    str | None, typer.Option(help="Name under which the base is served; default its folder's name.")
]
MaxRank = Annotated[int, typer.Option(min=1, help="The engine's `max_lora_rank`.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]

DEFAULT_RANK = 16  # vLLM's


@app.command()
def verify(
    folder: Folder,
    base: Base,
    keys: Annotated[
        Path | None,
        typer.Option(help="Public key in PEM or folder of such; one of them must have signed."),
    ] = None,
    base_name: BaseName = None,
    max_rank: MaxRank = DEFAULT_RANK,
    as_json: AsJson = False,
) -> None:
    """Check every byte of an adapter against its manifest and its base; needs no engine.

    Example: llm-service adapters verify adapters/sentiment --base models/smollm2-135m-instruct
    """
    with one_message(), refusal(as_json):
        verified = verify_folder(folder, describe_base(base, base_name, max_rank))
        if keys is not None:
            signature = folder / SIGNATURE_FILE
            check_signature(
                verified.manifest.name,
                folder,
                signature if signature.is_file() else None,
                trusted_keys(keys),
                require=True,
            )
        report([verified], as_json)


@app.command("list")
def list_(
    root: Annotated[Path, typer.Argument(help="Folder that contains adapter folders.")],
    as_json: AsJson = False,
) -> None:
    """List the adapters in a folder from their manifests, without verifying them.

    Example: llm-service adapters list deploy/local/adapters
    """
    with one_message():
        if not root.is_dir():
            raise ConfigurationError(f"{root}: not a folder")
        rows = [{"folder": name, **_listed(each)} for name, each in list_adapters(root).items()]
        _show(rows, ("folder", "name", "version", "task", "digest", "error"), as_json)
        if any("error" in row for row in rows):
            raise typer.Exit(1)


@app.command()
def prove(
    config: Annotated[Path, typer.Option("--config", "-c", help="The service's YAML file.")],
    as_json: AsJson = False,
) -> None:
    """Start the engine without opening a port, load the configured adapters and prove them.

    An adapter without golden examples or without a fingerprint cannot be proven.

    Example: llm-service adapters prove --config deploy/local/config.yaml
    """
    with one_message():
        # Show a row for each adapter, even if another one fails.
        settings = load_settings(config)
        in_full = settings.adapter_cache.model_copy(update={"proofs": False})
        lenient = {"adapters_on_failure": "quarantine", "adapter_cache": in_full}
        settings = settings.model_copy(update=lenient)
        quiet_engine()
        rows = asyncio.run(_prove(settings))
        columns = "name version state passed base_passed total seconds reason"
        _show(rows, columns.split(), as_json)
        if any(row["state"] != "serving" for row in rows):
            raise typer.Exit(1)


async def _prove(settings: Settings) -> list[dict[str, Any]]:
    from service.routes.models import adapter_body
    from service.runtime.running import running
    from service.vllm.start import start_vllm

    async with running(settings, start_vllm) as parts:
        entries = sorted(parts.fleet.registry.entries.items())
    rows = [adapter_body(*entry).model_dump() for entry in entries]
    for row in rows:
        row.update(row.pop("proof") or {})
    return rows


def describe_base(base: Path, name: str | None, max_rank: int) -> ServedBase:
    """The base model in a folder, under its own name or that of the folder."""
    return read_base_model(base, name=name or base.resolve().name, max_rank=max_rank)


@contextmanager
def refusal(as_json: bool) -> Iterator[None]:
    """End the command with the refusal's message and exit code 1."""
    try:
        yield
    except AdapterRefused as error:
        tell_refusal(error, as_json)
        raise typer.Exit(1) from None


def tell_refusal(error: AdapterRefused, as_json: bool) -> None:
    """Print why an adapter is refused."""
    shown = json.dumps({"ok": False, "error": str(error)}) if as_json else f"refused: {error}"
    typer.echo(shown, err=not as_json)


def report(verified: Sequence[VerifiedAdapter], as_json: bool) -> None:
    """Print what was verified or packed: a table, or a line of JSON for each."""
    rows = [{"ok": True, **_facts(each.manifest), "rank": each.rank} for each in verified]
    if as_json:
        for row in rows:
            typer.echo(json.dumps(row))
    elif rows:
        _show(rows, ("name", "version", "task", "rank", "digest"), False)


def _listed(each: Manifest | AdapterRefused) -> dict[str, Any]:
    return {"error": str(each)} if isinstance(each, AdapterRefused) else _facts(each)


def _facts(manifest: Manifest) -> dict[str, Any]:
    return manifest.model_dump(include={"name", "version", "task"}) | {"digest": manifest.digest}


def _show(rows: Sequence[dict[str, Any]], columns: Sequence[str], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(rows))
        return
    shown = [column for column in columns if any(row.get(column) for row in rows)]
    print_table(shown, ([_cell(row.get(column)) for column in shown] for row in rows))


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)
