"""Pack, sign, verify, push, list and prove adapters.

Exit codes: 0 success, 1 an adapter is refused or not proven, 2 the command or its configuration
cannot be used.
"""

import asyncio
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from service.adapters.folder import check_signature, trusted_keys
from service.adapters.folder import sign as sign_folder
from service.adapters.formats import AdapterRefused
from service.adapters.manifest import SIGNATURE_FILE, Manifest
from service.adapters.manifest_yaml import list_adapters
from service.adapters.pack import check_draft
from service.adapters.pack import pack as pack_folder
from service.adapters.pack import push as push_folder
from service.adapters.verify import VerifiedAdapter
from service.adapters.verify import verify as verify_folder
from service.common.command_line import one_message, print_table, quiet_engine
from service.common.plain_yaml import read_mapping
from service.errors import ConfigurationError
from service.models.base_model import ServedBase, read_base_model
from service.settings.load import load_settings
from service.settings.tree import Settings

app = typer.Typer(no_args_is_help=True, help=__doc__)

Folder = Annotated[Path, typer.Argument(help="Folder of the adapter.")]
Base = Annotated[Path, typer.Option("--base", help="Folder of the base model.")]
BaseName = Annotated[
    str | None, typer.Option(help="Name under which the base is served; default its folder's name.")
]
MaxRank = Annotated[int, typer.Option(min=1, help="The engine's `max_lora_rank`.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]

SigningKey = typer.Option(
    help="Private key in PEM (P-256, P-384 or P-521); its password, if it has one, is read from "
    "LLM_SIGNING_PASSWORD."
)

_DEFAULT_RANK = 16  # vLLM's
_PASSWORD = "LLM_SIGNING_PASSWORD"


@app.command()
def pack(
    folder: Folder,
    draft: Annotated[
        Path,
        typer.Option(help="YAML: the manifest without schema, base_model, files and fingerprint."),
    ],
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", help="The service's YAML file; its engine proves."),
    ] = None,
    base: Annotated[
        Path | None, typer.Option("--base", help="Folder of the base model; proves nothing.")
    ] = None,
    base_name: BaseName = None,
    max_rank: MaxRank = _DEFAULT_RANK,
    overwrite: Annotated[bool, typer.Option(help="Replace an existing adapter.yaml.")] = False,
    sign: Annotated[Path | None, SigningKey] = None,
    as_json: AsJson = False,
) -> None:
    """Write adapter.yaml into a PEFT folder: fill in digests and base, and check every file.

    With --config the engine starts, takes the adapter's fingerprint and proves the adapter. With
    --base no engine starts and the adapter stays unproven.

    Example: llm-service adapters pack out/sentiment --config config.yaml --draft sentiment.yaml
    """
    with one_message(), _refusal(as_json):
        if (config is None) == (base is None):
            raise ConfigurationError("pack: give either --config (proven) or --base (unproven)")
        written = read_mapping(draft)
        if config is not None:
            quiet_engine()
            settings = load_settings(config)
            packed = asyncio.run(_pack_proven(settings, folder.resolve(), written, overwrite))
        elif base is not None:
            described = _describe(base, base_name, max_rank)
            packed = pack_folder(folder, described, written, overwrite=overwrite)
            typer.echo("warning: unproven without a fingerprint; pack with --config", err=True)
        if sign is not None:
            sign_folder(folder, sign, os.environ.get(_PASSWORD))
        _report(packed, as_json)


@app.command("sign")
def sign_(folder: Folder, key: Annotated[Path, SigningKey], as_json: AsJson = False) -> None:
    """Sign a packed adapter: write adapter.sig, in the format of OpenSSF Model Signing.

    Put the public key into the folder that `adapter_trust.keys` of each service names.

    Example: llm-service adapters sign adapters/sentiment --key release-private.pem
    """
    with one_message(), _refusal(as_json):
        written = str(sign_folder(folder, key, os.environ.get(_PASSWORD)))
        typer.echo(json.dumps({"ok": True, "signature": written}) if as_json else written)


@app.command()
def verify(
    folder: Folder,
    base: Base,
    keys: Annotated[
        Path | None,
        typer.Option(help="Public key in PEM or folder of such; one of them must have signed."),
    ] = None,
    base_name: BaseName = None,
    max_rank: MaxRank = _DEFAULT_RANK,
    as_json: AsJson = False,
) -> None:
    """Check every byte of an adapter against its manifest and its base; needs no engine.

    Example: llm-service adapters verify adapters/sentiment --base models/smollm2-135m-instruct
    """
    with one_message(), _refusal(as_json):
        verified = verify_folder(folder, _describe(base, base_name, max_rank))
        if keys is not None:
            signature = folder / SIGNATURE_FILE
            check_signature(
                verified.manifest.name,
                folder,
                signature if signature.is_file() else None,
                trusted_keys(keys),
                require=True,
            )
        _report(verified, as_json)


@app.command()
def push(
    folder: Folder,
    address: Annotated[str, typer.Argument(help="oci://host/repository:tag")],
    as_json: AsJson = False,
) -> None:
    """Push a packed adapter to an OCI registry and print its address by digest.

    Credentials come from `docker login`, `oras login` or DOCKER_CONFIG.

    Example: llm-service adapters push adapters/sentiment oci://registry.example/tone:1.2.0
    """
    with one_message(), _refusal(as_json):
        pinned = push_folder(folder, address)
        typer.echo(json.dumps({"ok": True, "source": pinned}) if as_json else pinned)


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
        lenient = {"adapters_on_failure": "quarantine"}
        settings = load_settings(config).model_copy(update=lenient)
        quiet_engine()
        rows = asyncio.run(_prove(settings))
        columns = "name version state passed base_passed total seconds reason"
        _show(rows, columns.split(), as_json)
        if any(row["state"] != "serving" for row in rows):
            raise typer.Exit(1)


async def _pack_proven(
    settings: Settings, folder: Path, draft: dict[str, object], overwrite: bool
) -> VerifiedAdapter:
    from service.cli.offline import offline_model

    described = _describe(settings.base.path, settings.base.name, settings.max_lora_rank)
    check_draft(folder, described, draft, overwrite=overwrite)  # before the engine's start
    async with offline_model(settings) as model:
        return await model.pack(folder, described, draft, overwrite=overwrite)


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


def _describe(base: Path, name: str | None, max_rank: int) -> ServedBase:
    return read_base_model(base, name=name or base.resolve().name, max_rank=max_rank)


@contextmanager
def _refusal(as_json: bool) -> Iterator[None]:
    """End the command with the refusal's message and exit code 1."""
    try:
        yield
    except AdapterRefused as error:
        shown = json.dumps({"ok": False, "error": str(error)}) if as_json else f"refused: {error}"
        typer.echo(shown, err=not as_json)
        raise typer.Exit(1) from None


def _report(verified: VerifiedAdapter, as_json: bool) -> None:
    facts = {"ok": True, **_facts(verified.manifest), "rank": verified.rank}
    if as_json:
        typer.echo(json.dumps(facts))
    else:
        _show([facts], ("name", "version", "task", "rank", "digest"), False)


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
    if isinstance(value, str) and value.startswith("sha256:"):
        return value[:19]
    return "" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)
